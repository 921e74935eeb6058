import type { SessionStore } from '../../domain/session-store.js';
import type { Log } from '../../platform/log.js';
import type { Driver } from '../drive/driver.js';
import type { FleetView } from '../drive/fleet-view.js';
import type { DecodePeers, WorkerPeers } from '../drive/peers.js';
import type { Models } from '../models.js';

/** What the router's handlers need; made once in main.ts. */
export interface RouterDeps {
  readonly models: Models;
  readonly driver: Driver;
  readonly store: SessionStore;
  readonly fleet: FleetView;
  readonly workers: WorkerPeers;
  readonly decodes: DecodePeers;
  readonly log: Log;
  readonly defaultMaxPromptTokens: number;
  /** An upload that sends nothing for so long ends. */
  readonly uploadIdleMs: number;
}
