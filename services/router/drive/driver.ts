import { randomBytes } from 'node:crypto';
import { setMaxListeners } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import type { FleetMember } from '../../domain/fleet.js';
import { ServingError } from '../../domain/serving-error.js';
import {
  ENDED_STATES,
  type SessionRecord,
  type SessionState,
} from '../../domain/session-record.js';
import type { DriverRequest } from '../../domain/session-store.js';
import { checkHeader, type CheckedHeader, type HeaderLimits } from '../admission/check-header.js';
import type { GenerationHeader } from '../admission/generation-header.js';
import { type PlacedSession, reserveLane } from '../admission/reserve-lane.js';
import { refuseOtherPolicies, resolvePolicy } from '../admission/resolve-policy.js';
import { refuseSparseOfTurn } from '../admission/resolve-sparse.js';
import { refuseTenantAtLimit } from '../admission/tenant-limit.js';
import { servedModel, type ServedModel } from '../admission/served-model.js';
import type { DriveDeps } from './drive-deps.js';
import { forkSession } from './fork-session.js';
import type { KeptState } from './kept-state.js';
import { makeRecord } from './make-record.js';
import { checkSessionId, sessionBusy, shuttingDown } from './session-errors.js';
import { type PlacedRecord, SessionRun } from './session-run.js';
import { SessionTransfer } from './session-transfer.js';
import { watchUndriven } from './take-over.js';

/** How long a turn's end may take to be written down. */
const TURN_END_MS = 1_000;
/** Routers that may be asked for one idle session. */
const YIELD_TRIES = 5;
/** Tries to tell another driver of a cancel, while the session changes under it. */
const TELL_TRIES = 20;
const TELL_PAUSE_MS = 50;

export interface DriverLimits extends HeaderLimits {
  /** Sessions that one router drives at a time, kept ones included. */
  readonly maxSessions: number;
  /** Of them, those of one tenant; 0: any number. */
  readonly maxSessionsPerTenant: number;
  /** Jobs on a worker's queue from which on it takes no new session. */
  readonly maxQueuedJobs: number;
}

/** Of the call that carries a header. */
export interface CallFacts {
  readonly deadlineUnixMs: number | null;
  readonly traceparent: string | null;
}

/** A session that was admitted. */
export interface OpenedSession {
  readonly run: SessionRun;
  readonly model: ServedModel;
}

/** A kept session that is to take another turn. */
export interface KeptTurn extends OpenedSession {
  readonly kept: KeptState;
  readonly checked: CheckedHeader;
}

/** The sessions that this router drives. */
export class Driver {
  readonly #runs = new Map<string, SessionRun>();
  /** Sessions between their header and their place in #runs, with their tenants. */
  readonly #opening = new Map<Promise<unknown>, string>();
  readonly #transfer: SessionTransfer;
  #shuttingDown = false;
  readonly #stops: (() => void)[];
  /** Ends whose words Redis has not taken are given up when it aborts. */
  readonly #stopped = new AbortController();

  constructor(
    private readonly deps: DriveDeps,
    private readonly limits: DriverLimits,
  ) {
    this.#transfer = new SessionTransfer(deps);
    setMaxListeners(0, this.#stopped.signal); // each session that ends listens to it meanwhile
    const onRequest = (request: DriverRequest): void => {
      this.#requested(request).catch((error: unknown) => {
        deps.log.warn({ err: error, ...request }, 'a request of another router failed');
      });
    };
    this.#stops = [
      deps.store.driverRequests.listen(deps.driverId, onRequest),
      watchUndriven(deps, async (sessionId) => this.#adopt(sessionId)),
    ];
  }

  /**
   * Checks a header completely, reserves memory, creates the session and starts to drive it.
   * @throws ServingError refusals; nothing has happened then
   */
  async open(header: GenerationHeader, call: CallFacts): Promise<OpenedSession> {
    return this.#place(header.tenant, async () => this.#open(header, call));
  }

  /** Counts a session from before its first step on, so that a burst passes no limit. */
  async #place<T>(tenant: string, open: () => Promise<T>): Promise<T> {
    this.#refuseWhenFull();
    this.#refuseTenantWhenFull(tenant);
    const opening = open();
    this.#opening.set(opening, tenant);
    const opened = (): boolean => this.#opening.delete(opening);
    opening.then(opened, opened);
    return opening;
  }

  async #open(header: GenerationHeader, call: CallFacts): Promise<OpenedSession> {
    const { deps } = this;
    const members = await deps.fleet.members();
    const model = servedModel(header.model, members);
    const checked = this.#check(header, model, call);
    const policy = resolvePolicy(header, model, deps.policyDefaults(model.name));
    const sessionId = randomBytes(16).toString('hex');
    const tokens = checked.maxPromptTokens + checked.generation.stopping.maxNewTokens;
    const placedSessions = this.#placedSessions();
    const placed = await reserveLane(
      { sessionId, model, policy, tokens, members, placedSessions },
      { store: deps.store, queues: deps.queues, maxQueuedJobs: this.limits.maxQueuedJobs },
    );
    const { traceparent } = call;
    const nowUnixMs = deps.nowUnixMs();
    const record = makeRecord({
      ...{ sessionId, model, checked, placed, policy, traceparent, nowUnixMs },
    });
    return { run: await this.#start(record, placed), model };
  }

  /**
   * The kept session that a header continues, with the header checked; taken from the router that
   * drives it, if need be. Waits a moment for a turn whose end is just being written down.
   * @throws ServingError SESSION_NOT_FOUND, SESSION_BUSY, SESSION_ENDED, or the header's refusals
   */
  async continueKept(
    header: GenerationHeader,
    sessionId: string,
    call: CallFacts,
  ): Promise<KeptTurn> {
    if (this.#shuttingDown) throw shuttingDown();
    const members = await this.deps.fleet.members();
    const model = servedModel(header.model, members);
    const checked = this.#check(header, model, call);
    const run = await this.#bringHere(sessionId);
    if (run.record.model !== header.model) {
      throw new ServingError('BAD_REQUEST', `the session belongs to model ${run.record.model}`, {
        fieldViolations: [{ field: 'model', description: run.record.model }],
      });
    }
    refuseSparseOfTurn(header.sparse);
    resolvePolicy(header, model, this.deps.policyDefaults(model.name));
    refuseOtherPolicies(header, run.record.policy);
    return { run, model, kept: await this.#idle(run), checked };
  }

  /**
   * A second session that shares a kept one's segments.
   * @param keepSessionMs 0: as long as the first one
   * @throws ServingError SESSION_NOT_FOUND, SESSION_BUSY, SESSION_ENDED, VALUE_STORE_FULL
   */
  async fork(
    sessionId: string,
    keepSessionMs: number,
  ): Promise<{ sessionId: string; keptUntilUnixMs: number; tokens: number }> {
    checkSessionId(sessionId);
    if (this.#shuttingDown) throw shuttingDown();
    const source = await this.#bringHere(sessionId);
    await this.#idle(source);
    const wantedMs = keepSessionMs === 0 ? source.record.keepSessionMs : keepSessionMs;
    const keepMs = Math.min(wantedMs, this.limits.maxKeepSessionMs);
    const { record } = await this.#place(source.record.tenant, async () => {
      const placed = await forkSession(source.record, keepMs, this.deps);
      this.#drive(placed).adopt();
      return placed;
    });
    const { historyTokens: tokens, keepUntilUnixMs } = record;
    return { sessionId: record.sessionId, keptUntilUnixMs: keepUntilUnixMs ?? 0, tokens };
  }

  /** Workers and decodes that sessions of this router are on. */
  members(): FleetMember[] {
    return [...this.#runs.values()].flatMap((run) => run.members);
  }

  /** Of the sessions of this router, one each. */
  states(): SessionState[] {
    return [...this.#runs.values()].map(({ record }) => record.state);
  }

  find(sessionId: string): SessionRun | null {
    return this.#runs.get(sessionId) ?? null;
  }

  /** A client that this router relayed to has gone before its turn's end: acts as its header said. */
  async clientGone(sessionId: string, reason: ServingError): Promise<void> {
    const run = this.find(sessionId);
    if (run !== null) {
      run.disconnected(reason);
      return;
    }
    const record = await this.deps.store.records.load(sessionId);
    // Whoever drives it notices by itself that nobody relays any more.
    if (record === null || record.state === 'kept' || record.onDisconnect === 'keep') return;
    await this.#tellElsewhere(sessionId, reason);
  }

  /**
   * Cancels a session that any router drives, or that none drives any more.
   * @returns false if it had ended before
   * @throws ServingError SESSION_NOT_FOUND
   */
  async cancel(sessionId: string): Promise<boolean> {
    checkSessionId(sessionId);
    const error = new ServingError('CANCELLED', 'the session was cancelled');
    const run = this.find(sessionId) ?? (await this.#adopt(sessionId));
    if (run !== null) return run.end(error);
    return this.#tellElsewhere(sessionId, error);
  }

  /**
   * Frees a kept session before its time.
   * @returns false if it had ended before
   * @throws ServingError SESSION_NOT_FOUND; SESSION_BUSY during a turn
   */
  async release(sessionId: string): Promise<boolean> {
    checkSessionId(sessionId);
    if (this.find(sessionId) === null) {
      const { state } = await this.#load(sessionId);
      if (ENDED_STATES.has(state)) return false;
    }
    const run = await this.#bringHere(sessionId);
    if (run.kept === null) await run.idle(TURN_END_MS);
    if (await run.releaseKept()) return true;
    if (run.isEnding) return false;
    throw sessionBusy();
  }

  /** Takes no more sessions and leaves those that run to other routers, or to this one's next life. */
  async shutDown(uploadGraceMs: number): Promise<void> {
    this.#shuttingDown = true;
    for (const stop of this.#stops) stop();
    await Promise.allSettled(this.#opening.keys());
    const error = shuttingDown();
    await Promise.allSettled(
      [...this.#runs.values()].map(async (run) => run.leave(error, uploadGraceMs)),
    );
    this.#stopped.abort(error);
  }

  async #start(record: SessionRecord, placed: PlacedSession): Promise<SessionRun> {
    const { store, driverId } = this.deps;
    try {
      if (this.#shuttingDown) throw shuttingDown();
      await store.records.create(record, driverId);
    } catch (error) {
      await store.reservations
        .release(placed.reservation.storeId, record.sessionId)
        .catch(() => undefined);
      throw error;
    }
    const { worker, decode } = placed.lane;
    const run = this.#drive({ record, worker, decode });
    run.start();
    return run;
  }

  #drive(placed: PlacedRecord): SessionRun {
    const { sessionId } = placed.record;
    const onGone = (): void => {
      this.#runs.delete(sessionId);
    };
    const run = new SessionRun(placed, this.deps, onGone, this.#stopped.signal);
    this.#runs.set(sessionId, run);
    return run;
  }

  /**
   * Drives a session that nobody drives.
   * @param isTakeover its driver has died or left, and has not just let it go for this one
   * @returns null if somebody drives it, or it has ended
   */
  async #adopt(sessionId: string, isTakeover = true): Promise<SessionRun | null> {
    if (this.#shuttingDown || this.#runs.has(sessionId)) return this.find(sessionId);
    const placed = await this.#transfer.take(sessionId);
    const other = this.find(sessionId);
    if (placed === null || other !== null) return other;
    if (this.#isShuttingDown()) {
      await this.deps.store.records.dropLease(sessionId, this.deps.driverId);
      return null;
    }
    if (isTakeover) this.deps.metrics.tookOver(placed.record.state);
    const run = this.#drive(placed);
    run.adopt();
    return run;
  }

  /** The run of a session, taken from another router that keeps it idle. */
  async #bringHere(sessionId: string): Promise<SessionRun> {
    checkSessionId(sessionId);
    const here = this.find(sessionId) ?? (await this.#adopt(sessionId));
    if (here !== null) return here;
    const record = await this.#load(sessionId);
    if (ENDED_STATES.has(record.state)) {
      throw new ServingError('SESSION_ENDED', 'the session is not kept any more; start a new one');
    }
    for (let tries = 1; ; tries += 1) {
      const letGo = await this.#transfer.request(sessionId);
      const run = await this.#adopt(sessionId, false);
      if (run !== null) return run;
      // Some other router may have found it undriven first: it keeps it idle as well.
      if (!letGo || tries === YIELD_TRIES) throw sessionBusy();
    }
  }

  async #idle(run: SessionRun): Promise<KeptState> {
    if (run.kept === null) await run.idle(TURN_END_MS);
    if (run.kept !== null) return run.kept;
    throw sessionBusy();
  }

  /** Another router wants an idle session, or its memory. */
  async #requested({ kind, sessionId }: DriverRequest): Promise<void> {
    const run = this.find(sessionId);
    if (run === null || run.kept === null) return;
    if (kind === 'evict') {
      if (await run.releaseKept()) this.deps.metrics.evicted();
    } else await run.leave(shuttingDown(), 0);
  }

  /**
   * Its driver follows the event stream and ends the session when it reads this.
   * @returns false if it had ended before
   */
  async #tellElsewhere(sessionId: string, error: ServingError): Promise<boolean> {
    const { code, message, details } = error;
    const event = { type: 'error', code, message, details } as const;
    for (let attempt = 1; attempt <= TELL_TRIES; attempt += 1) {
      const { epoch, state } = await this.#load(sessionId);
      if (ENDED_STATES.has(state)) return false;
      if (state === 'kept') return (await this.#bringHere(sessionId)).end(error);
      const appended = await this.deps.store.events.append(sessionId, epoch, event);
      if (typeof appended === 'number') return true;
      await delay(TELL_PAUSE_MS); // a new plan, or a turn's end that is being written down
    }
    throw sessionBusy();
  }

  #check(header: GenerationHeader, model: ServedModel, call: CallFacts): CheckedHeader {
    return checkHeader(header, {
      model,
      limits: this.limits,
      nowUnixMs: this.deps.nowUnixMs(),
      callDeadlineUnixMs: call.deadlineUnixMs,
      randomSeed: randomBytes(8).readBigUInt64LE().toString(),
    });
  }

  async #load(sessionId: string): Promise<SessionRecord> {
    const record = await this.deps.store.records.load(sessionId);
    if (record !== null) return record;
    throw new ServingError(
      'SESSION_NOT_FOUND',
      `session ${sessionId} is unknown or ended more than 10 minutes ago`,
    );
  }

  #isShuttingDown(): boolean {
    return this.#shuttingDown;
  }

  #refuseWhenFull(): void {
    if (this.#shuttingDown) throw shuttingDown();
    if (this.#runs.size + this.#opening.size < this.limits.maxSessions) return;
    const limit = String(this.limits.maxSessions);
    throw new ServingError(
      'TOO_MANY_SESSIONS',
      `this router drives ${limit} sessions already; try again`,
      {
        retryAfterMs: 1_000,
        quota: { subject: 'sessions', description: `at most ${limit} at a time` },
      },
    );
  }

  #refuseTenantWhenFull(tenant: string): void {
    const driven = [...this.#runs.values()].map(({ record }) => record.tenant);
    const own = [...driven, ...this.#opening.values()].filter((each) => each === tenant);
    refuseTenantAtLimit(tenant, own.length, this.limits.maxSessionsPerTenant);
  }

  #placedSessions(): Map<string, number> {
    const counts = new Map<string, number>();
    for (const run of this.#runs.values()) {
      for (const { memberId: id } of run.members) counts.set(id, (counts.get(id) ?? 0) + 1);
    }
    return counts;
  }
}
