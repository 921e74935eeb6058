import type { ErrorCode } from '../../domain/serving-error.js';
import type { SessionStore } from '../../domain/session-store.js';
import type { Log } from '../../platform/log.js';
import type { PolicyDefaults } from '../admission/policy-defaults.js';
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
  /** What a model's sessions get where their header does not say. */
  readonly policyDefaults: (model: string) => PolicyDefaults;
  /** How long a session without a deadline waits for a worker or decode after it lost its own. */
  readonly recoveryMs: number;
}

/** What the driver measures. */
export interface DriveMetrics {
  /** Phase: the state that the session was in. */
  cancelToFree(phase: string, seconds: number): void;
  timeToFirstToken(model: string, seconds: number): void;
  tokens(model: string, counts: { computed: number; cached: number; generated: number }): void;
  /** 'finished', or the code of the error that ended the session. */
  ended(outcome: string): void;
  /** The session got a new lane. */
  replanned(cause: ErrorCode): void;
  /** Another decode took the turn. */
  decodeReplaced(cause: ErrorCode): void;
  /** Bytes did not match: of a job, or of a session's segments or hand-off. */
  corruption(place: 'job' | 'session'): void;
  /** This router drives a session whose driver was gone. */
  tookOver(state: string): void;
  /** Prompt tokens that were linked instead of prefilled. */
  prefixReused(tokens: number): void;
  /** A kept session was ended for the memory that it held. */
  evicted(): void;
}
