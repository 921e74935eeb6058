import type { SessionStore } from '../../domain/session-store.js';
import type { Log } from '../../platform/log.js';
import type { FleetView } from './fleet-view.js';
import type { DecodePeers, WorkerPeers } from './peers.js';
import type { PrefillQueues } from './prefill-queues.js';

/** What drivers of sessions need; made once in main.ts. */
export interface DriveDeps {
  readonly store: SessionStore;
  readonly fleet: FleetView;
  readonly queues: PrefillQueues;
  readonly workers: WorkerPeers;
  readonly decodes: DecodePeers;
  /** Unique per process life. */
  readonly driverId: string;
  readonly log: Log;
  readonly nowUnixMs: () => number;
  readonly metrics: DriveMetrics;
}

/** What the driver measures. */
export interface DriveMetrics {
  /** Phase: the state that the session was in. */
  cancelToFree(phase: string, seconds: number): void;
  timeToFirstToken(model: string, seconds: number): void;
  tokens(model: string, counts: { computed: number; cached: number; generated: number }): void;
  /** 'finished', or the code of the error that ended the session. */
  ended(outcome: string): void;
}
