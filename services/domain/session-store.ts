import type { FleetMember } from './fleet.js';
import type { SequencedEvent, SessionEvent } from './session-event.js';
import type { SessionRecord } from './session-record.js';

/*
 * Ports to the cluster's memory. platform/session-store implements them on Redis; KV bytes never
 * pass here. Every method rejects with ServingError REDIS_UNAVAILABLE when Redis cannot be
 * reached within its command timeout; a write may then have been done or not. Calling again is
 * safe; an event that is appended again should carry the same appendId.
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

/** What makes an append safe to send again, and keeps it out of other turns. */
export interface AppendOptions {
  /**
   * Name of this append: a second one with the same name adds nothing and answers as the first.
   * Made when the event is made, so that all repetitions carry it. The names of a session's last
   * 256 appends are remembered, and of tokens only the last: their index tells the others. Default:
   * a new one for each call.
   */
  readonly appendId?: string;
  /** The turn that the event belongs to, as beginTurn() counts. Default: whichever runs. */
  readonly turn?: number;
}

export interface EventAppend extends AppendOptions {
  readonly sessionId: string;
  readonly epoch: number;
  readonly event: SessionEvent;
}

/** The event stream of each session. */
export interface SessionEvents {
  /**
   * Appends in one atomic step; returns the sequence, or why not:
   * 'stale-epoch' (the record has another epoch), 'ended' (an error, or a finished event of this
   * turn, is there, or another turn runs), 'duplicate' (a token whose index is not the next one),
   * 'unknown' (no record).
   */
  append(
    sessionId: string,
    epoch: number,
    event: SessionEvent,
    options?: AppendOptions,
  ): Promise<number | 'stale-epoch' | 'ended' | 'duplicate' | 'unknown'>;
  /** Several appends in one round trip (a decode step's tokens). */
  appendAll(
    appends: readonly EventAppend[],
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
  /**
   * Opens the stream for another turn: token indices start at 0 and a finished event may follow.
   * The first turn is number 0, and each that is begun after a finished event the next number;
   * beginning one that has no token yet again changes nothing.
   */
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
