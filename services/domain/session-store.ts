import type { FleetMember } from './fleet.js';
import type { SequencedEvent, SessionEvent } from './session-event.js';
import type { SessionRecord } from './session-record.js';

/*
 * Ports to the cluster's memory. platform/session-store implements them on Redis; KV bytes never
 * pass here. Every method rejects with ServingError REDIS_UNAVAILABLE when Redis cannot be
 * reached within its command timeout; a write may then have been done or not. Calling again is
 * safe: a token that is there answers 'duplicate', a finished or error event 'ended'.
 */

/** Session records and the leases of their drivers. */
export interface SessionRecords {
  /** Creates the record (revision 1) and takes the lease for `driverId`. */
  create(record: SessionRecord, driverId: string): Promise<void>;
  load(sessionId: string): Promise<SessionRecord | null>;
  /**
   * Writes `next` (its revision is set to record.revision + 1) if the stored revision still is
   * `record.revision` and `driverId` holds the lease. Returns what is stored now, or null when
   * someone else changed the record or took the lease: load and decide again.
   */
  compareAndSet(
    record: SessionRecord,
    next: Omit<SessionRecord, 'revision' | 'sessionId' | 'schemaVersion'>,
    driverId: string,
  ): Promise<SessionRecord | null>;
  /** Takes or renews the lease (lives 6 s). False if another driver holds it. */
  takeLease(sessionId: string, driverId: string): Promise<boolean>;
  dropLease(sessionId: string, driverId: string): Promise<void>;
  /** Ids of sessions that have not ended (kept ones included). */
  activeSessionIds(): Promise<string[]>;
  /** Forgets an ended session's record, token ids and events after their time (10 minutes). */
  expireEnded(sessionId: string): Promise<void>;
}

/** The event stream of each session. */
export interface SessionEvents {
  /**
   * Appends in one atomic step; returns the sequence, or why not:
   * 'stale-epoch' (the record has another epoch), 'ended' (an error, or a finished event of this
   * turn, is there), 'duplicate' (a token whose index is not the next one), 'unknown' (no record).
   */
  append(
    sessionId: string,
    epoch: number,
    event: SessionEvent,
  ): Promise<number | 'stale-epoch' | 'ended' | 'duplicate' | 'unknown'>;
  /** Several appends in one round trip (a decode step's tokens). */
  appendAll(
    appends: readonly {
      readonly sessionId: string;
      readonly epoch: number;
      readonly event: SessionEvent;
    }[],
  ): Promise<(number | 'stale-epoch' | 'ended' | 'duplicate' | 'unknown')[]>;
  /** Events with sequence > afterSequence, in order, at most `limit`. */
  read(sessionId: string, afterSequence: number, limit: number): Promise<SequencedEvent[]>;
  /**
   * Events from afterSequence on as they come, across Redis reconnects, until `signal` aborts.
   * Woken by publish-subscribe, checked at least every second.
   */
  follow(
    sessionId: string,
    afterSequence: number,
    signal: AbortSignal,
  ): AsyncIterable<SequencedEvent>;
  /** Opens the stream for another turn: token indices start at 0 and a finished event may follow. */
  beginTurn(sessionId: string): Promise<void>;
}

/** Token ids of prompt chunks: packed little-endian uint32 with a CRC32, one key a chunk. */
export interface TokenIdStore {
  put(sessionId: string, beginToken: number, tokenIds: Uint32Array): Promise<void>;
  /** @throws ServingError DATA_LOSS when absent or damaged */
  get(sessionId: string, beginToken: number, endToken: number): Promise<Uint32Array>;
}

/** Heartbeats of workers and decodes. */
export interface Fleet {
  announce(member: FleetMember): Promise<void>;
  withdraw(memberId: string): Promise<void>;
  members(): Promise<FleetMember[]>;
}

/** Host memory promised to sessions, by value store. */
export interface Reservations {
  /** False when the store's capacity would be passed. Idempotent per session. */
  reserve(
    storeId: string,
    sessionId: string,
    bytes: number,
    capacityBytes: number,
  ): Promise<boolean>;
  release(storeId: string, sessionId: string): Promise<void>;
  reservedBytes(storeId: string): Promise<number>;
}

/** The five ports as one value, made once in each main.ts. */
export interface SessionStore {
  readonly records: SessionRecords;
  readonly events: SessionEvents;
  readonly tokenIds: TokenIdStore;
  readonly fleet: Fleet;
  readonly reservations: Reservations;
}
