import type { FleetMember } from './fleet.js';
import type { SequencedEvent, SessionEvent } from './session-event.js';
import type { SessionRecord } from './session-record.js';
import type { TokenRange } from './token-range.js';

/*
 * Ports to the cluster's memory. platform/session-store implements them on Redis; KV bytes never
 * pass here. Every method rejects with ServingError REDIS_UNAVAILABLE when Redis cannot be
 * reached within its command timeout; a write may then have been done or not. Calling again is
 * safe; an event that is appended again should carry the same appendId.
 */

export type LeaseAnswer = 'held' | 'elsewhere' | 'gone';

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
  /**
   * Takes or renews the lease (lives 5 s). 'gone': there is no such record, and no lease was taken:
   * Redis has lost the session, or forgot it after its end.
   */
  takeLease(sessionId: string, driverId: string): Promise<LeaseAnswer>;
  dropLease(sessionId: string, driverId: string): Promise<void>;
  /** Who drives the session now; null: nobody, its driver died or left it. */
  leaseHolder(sessionId: string): Promise<string | null>;
  /** Ids of sessions that have not ended and that nobody drives. One round trip however many. */
  undrivenSessionIds(): Promise<string[]>;
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
  /** The decode's attempt, as the record counts them; refused as 'stale-epoch' if the record has another. */
  readonly attempt?: number;
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
   * 'stale-epoch' (the record has another epoch or attempt, or the stream has lost tokens before this
   * one), 'ended' (an error, or a finished event of this turn, is there, or another turn runs),
   * 'duplicate' (a token that the stream has), 'unknown' (no record).
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
   * Woken by publish-subscribe, checked at least every second. Waits for the first event of a session
   * that has a record; once that is forgotten (after its end, or in a restart of Redis) or the stream
   * has lost events that were read, it rejects within a second.
   *
   * @throws ServingError SESSION_LOST, or DATA_LOSS on a damaged event
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
  /** Sequence of the last event; 0: none yet. Null if the stream is gone. */
  lastSequence(sessionId: string): Promise<number | null>;
}

/** Token ids of prompt chunks: packed little-endian uint32 with a CRC32, one key a chunk. */
export interface TokenIdStore {
  /** A chunk takes the place of those that begin inside it. */
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

/** Who listens to a session's events for its client: any router, not only its driver. */
export interface Clients {
  /** Says that a router relays the session's events to a client; to be repeated every 2 s (lives 6 s). */
  attach(sessionId: string, routerId: string): Promise<void>;
  /** The client that `routerId` relayed to is gone. */
  detach(sessionId: string, routerId: string): Promise<void>;
  isAttached(sessionId: string): Promise<boolean>;
}

/** What one router asks the driver of a session to do. */
export interface DriverRequest {
  /**
   * yield: drop the lease of an idle (kept) session, so that the sender can drive its next turn;
   * evict: end an idle (kept) session, whose memory another one needs.
   */
  readonly kind: 'yield' | 'evict';
  readonly sessionId: string;
}

/** Requests between routers; lost when nobody listens. */
export interface DriverRequests {
  /**
   * Safe to repeat, as the requests are: one may arrive twice.
   *
   * @returns false if that driver does not listen: it is gone, or Redis was just restarted
   */
  send(driverId: string, request: DriverRequest): Promise<boolean>;
  /** Until the returned function is called; survives Redis reconnects. */
  listen(driverId: string, onRequest: (request: DriverRequest) => void): () => void;
}

/** Kept sessions of each value store, by when they were used last. */
export interface KeptSessions {
  touch(storeId: string, sessionId: string, usedUnixMs: number): Promise<void>;
  remove(storeId: string, sessionId: string): Promise<void>;
  /** Least recently used first. */
  leastRecentlyUsed(storeId: string, limit: number): Promise<string[]>;
}

/** A chunk of a kept session that another session may link. */
export interface PrefixDonor extends TokenRange {
  readonly sessionId: string;
  readonly epoch: number;
  /** That the chunk's segment carries. */
  readonly fingerprint: string;
}

/**
 * Chunks of kept sessions by their hash chain (platform/prefix-chain.ts): equal chains mean equal
 * tokens up to the chunk's end, the same model, policy and tenant.
 */
export interface PrefixIndex {
  /** Offers chunks; the last one to offer a chain is found. Forgotten by themselves after an hour unless repeated. */
  publish(
    storeId: string,
    chunks: readonly { readonly chain: string; readonly donor: PrefixDonor }[],
  ): Promise<void>;
  find(storeId: string, chain: string): Promise<PrefixDonor | null>;
  /** Withdraws those of the chains that this session offers. */
  withdraw(storeId: string, sessionId: string, chains: readonly string[]): Promise<void>;
}

/** Start-time fair queueing of a worker's tokens among tenants. */
export interface FairShares {
  /**
   * BullMQ priority (1 first, at most 2,097,151) of a tenant's next job on a worker's queue.
   *
   * @param chargedTokens the job's tokens times its priority's factor; 0 for a seal, which waits for nobody's share
   * @param queueIsIdle nothing waits or runs there: shares begin anew
   */
  nextPriority(
    workerId: string,
    tenant: string,
    chargedTokens: number,
    queueIsIdle: boolean,
  ): Promise<number>;
  /** The worker started a job of this priority: later tenants begin from there. */
  started(workerId: string, priority: number): Promise<void>;
}

/** The ports as one value, made once in each main.ts. */
export interface SessionStore {
  readonly records: SessionRecords;
  readonly events: SessionEvents;
  readonly tokenIds: TokenIdStore;
  readonly fleet: Fleet;
  readonly reservations: Reservations;
  readonly clients: Clients;
  readonly driverRequests: DriverRequests;
  readonly kept: KeptSessions;
  readonly prefixes: PrefixIndex;
  readonly fairShares: FairShares;
}
