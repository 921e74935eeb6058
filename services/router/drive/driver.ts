import { randomBytes } from 'node:crypto';
import type { FleetMember } from '../../domain/fleet.js';
import { ServingError } from '../../domain/serving-error.js';
import {
  ENDED_STATES,
  SESSION_ID_PATTERN,
  SESSION_SCHEMA_VERSION,
  type SessionRecord,
} from '../../domain/session-record.js';
import { sessionFingerprint } from '../../platform/fingerprint.js';
import { checkHeader, type CheckedHeader, type HeaderLimits } from '../admission/check-header.js';
import type { GenerationHeader } from '../admission/generation-header.js';
import { type PlacedSession, reserveLane } from '../admission/reserve-lane.js';
import { resolvePolicy } from '../admission/resolve-policy.js';
import { servedModel, type ServedModel } from '../admission/served-model.js';
import type { DriveDeps } from './drive-deps.js';
import { endOrphan } from './end-orphan.js';
import type { KeptState } from './kept-state.js';
import { sessionBusy, SessionRun } from './session-run.js';

/** How long a turn's end may take to be written down. */
const TURN_END_MS = 1_000;

export interface DriverLimits extends HeaderLimits {
  /** Sessions that one router drives at a time, kept ones included. */
  readonly maxSessions: number;
}

/** Of the call that carries a header. */
export interface CallFacts {
  readonly deadlineUnixMs: number | null;
  readonly traceparent: string | null;
}

/** A kept session that is to take another turn. */
export interface KeptTurn {
  readonly run: SessionRun;
  readonly kept: KeptState;
  readonly checked: CheckedHeader;
}

/** The sessions that this router drives. */
export class Driver {
  readonly #runs = new Map<string, SessionRun>();
  /** Sessions between their header and their place in #runs. */
  readonly #opening = new Set<Promise<SessionRun>>();
  #shuttingDown = false;
  /** Ends whose words Redis has not taken are given up when it aborts. */
  readonly #stopped = new AbortController();

  constructor(
    private readonly deps: DriveDeps,
    private readonly limits: DriverLimits,
  ) {}

  /**
   * Checks a header completely, reserves memory, creates the session and starts to drive it.
   * @throws ServingError refusals; nothing has happened then
   */
  async open(header: GenerationHeader, call: CallFacts): Promise<SessionRun> {
    this.#refuseWhenFull();
    const opening = this.#open(header, call);
    this.#opening.add(opening);
    const opened = (): boolean => this.#opening.delete(opening);
    opening.then(opened, opened);
    return opening;
  }

  async #open(header: GenerationHeader, call: CallFacts): Promise<SessionRun> {
    const members = await this.deps.fleet.members();
    const model = servedModel(header.model, members);
    const checked = this.#check(header, model, call);
    const policy = resolvePolicy(header, model);
    const sessionId = randomBytes(16).toString('hex');
    const tokens = checked.maxPromptTokens + checked.generation.stopping.maxNewTokens;
    const placedSessions = this.#placedSessions();
    const placed = await reserveLane(
      { sessionId, model, tokens, members, placedSessions },
      this.deps.store.reservations,
    );
    const record = makeRecord({
      sessionId,
      model,
      checked,
      placed,
      policy,
      call,
      now: this.deps.nowUnixMs(),
    });
    return this.#start(record, placed);
  }

  /**
   * The kept session that a header continues, with the header checked. Waits a moment for a turn
   * whose end is just being written down.
   * @throws ServingError SESSION_NOT_FOUND, SESSION_BUSY, SESSION_ENDED, or the header's refusals
   */
  async resume(header: GenerationHeader, sessionId: string, call: CallFacts): Promise<KeptTurn> {
    if (this.#shuttingDown) throw shuttingDown();
    const members = await this.deps.fleet.members();
    const model = servedModel(header.model, members);
    const checked = this.#check(header, model, call);
    const run = this.find(sessionId) ?? (await this.#notHere(sessionId));
    if (run.record.model !== header.model) {
      throw new ServingError('BAD_REQUEST', `the session belongs to model ${run.record.model}`, {
        fieldViolations: [{ field: 'model', description: run.record.model }],
      });
    }
    resolvePolicy(header, model);
    if (run.kept === null) await run.idle(TURN_END_MS);
    const { kept } = run;
    if (kept !== null) return { run, kept, checked };
    throw sessionBusy();
  }

  /** Workers and decodes that sessions of this router are on. */
  members(): FleetMember[] {
    return [...this.#runs.values()].flatMap((run) => run.members);
  }

  find(sessionId: string): SessionRun | null {
    return this.#runs.get(sessionId) ?? null;
  }

  /**
   * Cancels a session that any router drives, or that none drives any more.
   * @returns false if it had ended before
   * @throws ServingError SESSION_NOT_FOUND; SESSION_BUSY if another router keeps it
   */
  async cancel(sessionId: string): Promise<boolean> {
    checkSessionId(sessionId);
    const error = new ServingError('CANCELLED', 'the session was cancelled');
    const run = this.find(sessionId);
    if (run !== null) return run.end(error);
    const record = await this.#load(sessionId);
    if (ENDED_STATES.has(record.state)) return false;
    if (await endOrphan(sessionId, error, this.deps, this.#stopped.signal)) return true;
    // Its driver follows the event stream and ends the session when it reads this.
    const { code, message, details } = error;
    const event = { type: 'error', code, message, details } as const;
    const appended = await this.deps.store.events.append(sessionId, record.epoch, event);
    if (typeof appended === 'number') return true;
    // The turn has ended: between turns its driver reads nothing.
    if (ENDED_STATES.has((await this.#load(sessionId)).state)) return false;
    throw drivenElsewhere();
  }

  /**
   * Frees a kept session before its time.
   * @returns false if it had ended before
   * @throws ServingError SESSION_NOT_FOUND; SESSION_BUSY during a turn, or if another router keeps it
   */
  async release(sessionId: string): Promise<boolean> {
    checkSessionId(sessionId);
    const run = this.find(sessionId);
    if (run !== null) {
      if (run.kept === null) await run.idle(TURN_END_MS);
      if (await run.releaseKept()) return true;
      if (run.isEnding) return false;
      throw sessionBusy();
    }
    const { state } = await this.#load(sessionId);
    if (ENDED_STATES.has(state)) return false;
    const error =
      state === 'kept' ? null : new ServingError('SESSION_ENDED', 'the session was released');
    if (await endOrphan(sessionId, error, this.deps, this.#stopped.signal)) return true;
    throw drivenElsewhere();
  }

  /** Takes no more sessions and ends those that run. */
  async shutDown(): Promise<void> {
    this.#shuttingDown = true;
    await Promise.allSettled(this.#opening);
    await Promise.allSettled([...this.#runs.values()].map(async (run) => run.end(shuttingDown())));
    this.#stopped.abort(shuttingDown());
  }

  async #start(record: SessionRecord, placed: PlacedSession): Promise<SessionRun> {
    const { store, driverId } = this.deps;
    const { sessionId } = record;
    try {
      if (this.#shuttingDown) throw shuttingDown();
      await store.records.create(record, driverId);
    } catch (error) {
      await store.reservations
        .release(placed.reservation.storeId, sessionId)
        .catch(() => undefined);
      throw error;
    }
    const { worker, decode } = placed.lane;
    const onGone = (): void => {
      this.#runs.delete(sessionId);
    };
    const placedRecord = { record, worker, decode };
    const run = new SessionRun(placedRecord, this.deps, onGone, this.#stopped.signal);
    this.#runs.set(sessionId, run);
    run.start();
    return run;
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

  /** Says why a session is not among this router's. */
  async #notHere(sessionId: string): Promise<never> {
    const record = await this.#load(sessionId);
    if (ENDED_STATES.has(record.state)) {
      throw new ServingError('SESSION_ENDED', 'the session is not kept any more; start a new one');
    }
    throw drivenElsewhere();
  }

  async #load(sessionId: string): Promise<SessionRecord> {
    const record = await this.deps.store.records.load(sessionId);
    if (record !== null) return record;
    throw new ServingError(
      'SESSION_NOT_FOUND',
      `session ${sessionId} is unknown or ended more than 10 minutes ago`,
    );
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

  #placedSessions(): Map<string, number> {
    const counts = new Map<string, number>();
    for (const run of this.#runs.values()) {
      for (const { memberId: id } of run.members) counts.set(id, (counts.get(id) ?? 0) + 1);
    }
    return counts;
  }
}

function shuttingDown(): ServingError {
  return new ServingError('SHUTTING_DOWN', 'the router is shutting down; send the request again');
}

function checkSessionId(sessionId: string): void {
  if (SESSION_ID_PATTERN.test(sessionId)) return;
  throw new ServingError('BAD_REQUEST', 'session_id must be 32 hex digits', {
    fieldViolations: [{ field: 'session_id', description: 'must be 32 hex digits' }],
  });
}

function drivenElsewhere(): ServingError {
  return new ServingError('SESSION_BUSY', 'another router drives the session; call that one');
}

function makeRecord(from: {
  readonly sessionId: string;
  readonly model: ServedModel;
  readonly checked: CheckedHeader;
  readonly placed: PlacedSession;
  readonly policy: SessionRecord['policy'];
  readonly call: CallFacts;
  readonly now: number;
}): SessionRecord {
  const { sessionId, model, checked, placed, policy, call, now } = from;
  const epoch = 1;
  const { modelFingerprint, layerBegin, layerEnd } = model;
  const { generation, maxPromptTokens, tenant, deadlineUnixMs } = checked;
  const { onDisconnect, resumeGraceMs, keepSessionMs, keepExactKeys } = checked;
  return {
    schemaVersion: SESSION_SCHEMA_VERSION,
    sessionId,
    revision: 1,
    state: 'uploading',
    epoch,
    lane: [placed.lane.worker.memberId],
    decodeId: null,
    turn: 0,
    model: model.name,
    modelFingerprint,
    policy,
    fingerprint: sessionFingerprint({
      modelFingerprint,
      policy,
      sessionId,
      epoch,
      layerBegin,
      layerEnd,
    }),
    generation,
    receivedTokens: 0,
    uploadClosed: false,
    nextToken: 0,
    segments: [],
    maxPromptTokens,
    reservation: placed.reservation,
    tenant,
    traceparent: call.traceparent,
    deadlineUnixMs,
    ...{ onDisconnect, resumeGraceMs, keepSessionMs, keepExactKeys },
    keepUntilUnixMs: null,
    createdUnixMs: now,
  };
}
