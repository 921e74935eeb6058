import type { ServingError } from '../../domain/serving-error.js';
import type { SessionStore } from '../../domain/session-store.js';
import type { Log } from '../../platform/log.js';
import type { Driver } from '../drive/driver.js';
import type { FleetView } from '../drive/fleet-view.js';
import type { DecodePeers, WorkerPeers } from '../drive/peers.js';
import type { Models } from '../models.js';
import type { Relays } from './relays.js';

/** A kept session that another one was made of. */
export interface ForkedSession {
  readonly sessionId: string;
  readonly keptUntilUnixMs: number;
  /** Prompt and generated tokens that it holds. */
  readonly tokens: number;
}

/** What handlers ask of sessions that any router may drive. */
export interface SharedSessions {
  /**
   * Makes a second session of a kept one.
   * @param keepSessionMs 0: as long as the first one
   * @throws ServingError SESSION_NOT_FOUND, SESSION_BUSY, SESSION_ENDED, or a lack of memory
   */
  fork(sessionId: string, keepSessionMs: number): Promise<ForkedSession>;
  /** A client that this router relayed to by Resume is gone: applies on_disconnect. */
  clientGone(sessionId: string, reason: ServingError): Promise<void>;
}

/** What the router's handlers need; made once in main.ts. */
export interface RouterDeps {
  readonly models: Models;
  readonly driver: Driver & SharedSessions;
  readonly store: SessionStore;
  readonly fleet: FleetView;
  readonly workers: WorkerPeers;
  readonly decodes: DecodePeers;
  readonly log: Log;
  readonly defaultMaxPromptTokens: number;
  /** An upload that sends nothing for so long ends. */
  readonly uploadIdleMs: number;
  /** This router's relays, known to the drivers of their sessions. */
  readonly relays: Relays;
}
