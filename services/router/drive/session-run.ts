import type { FleetMember } from '../../domain/fleet.js';
import { ServingError } from '../../domain/serving-error.js';
import type { SessionRecord } from '../../domain/session-record.js';
import { newAppendId } from '../../platform/session-store/append-id.js';
import type { CheckedHeader } from '../admission/check-header.js';
import { ClientWatch } from './client-watch.js';
import type { DriveDeps } from './drive-deps.js';
import { driveTurn } from './drive-turn.js';
import { DrivenSession } from './driven-session.js';
import { closeTurn, KeptOffer, lastTokenOf } from './keep-session.js';
import type { KeptState } from './kept-state.js';
import { Alarm } from './long-timer.js';
import { openNextTurn } from './next-turn.js';
import { PrefixReuse } from './prefix-reuse.js';
import { PromptTokens } from './prompt-tokens.js';
import { isElsewhere } from './lease-check.js';
import { LeaseLost, RecordKeeper, sessionLost } from './record-keeper.js';
import { settledWithin } from './redis-gap.js';
import { renewLease } from './renew-lease.js';
import { SessionEnding } from './session-ending.js';
import {
  drivenElsewhere,
  notResumed,
  sessionBusy,
  uploadCut,
  uploadLost,
} from './session-errors.js';
import { SessionUpload } from './session-upload.js';
import { acceptedEvent } from './turn-calls.js';
import { TurnFollower } from './turn-follower.js';

/** A session and those who have it, as far as the fleet knows them. */
export interface PlacedRecord {
  readonly record: SessionRecord;
  readonly worker: FleetMember | null;
  readonly decode: FleetMember | null;
}

/**
 * Drives one session from its admission, or from where another driver left it, to its end: upload,
 * chunks, seal, decode, release. One abort signal stops whatever is under way; then memory is freed
 * at worker and decode, whatever the phase.
 */
export class SessionRun {
  readonly #session: DrivenSession;
  readonly #aborter = new AbortController();
  #stopLease: () => void = () => undefined;
  #work: Promise<void> = Promise.resolve();
  #ending: Promise<void> | null = null;
  readonly #keeping: Alarm;
  readonly #deadline: Alarm;
  readonly #clientWatch: ClientWatch;
  readonly #offer: KeptOffer;
  #kept: KeptState | null = null;
  readonly #upload: SessionUpload;
  readonly #end: SessionEnding;

  /**
   * @param onGone called once, when nothing of the session is driven here any more
   * @param stopped aborts when the router waits for Redis no longer
   */
  constructor(
    { record, worker, decode }: PlacedRecord,
    private readonly deps: DriveDeps,
    private readonly onGone: () => void,
    stopped: AbortSignal,
  ) {
    const { records, tokenIds } = deps.store;
    const { sessionId, policy, uploadClosed, receivedTokens, historyTokens, turn } = record;
    const stored = Math.max(receivedTokens, historyTokens, turn.endToken ?? 0);
    const complete = uploadClosed ? { stored, lane: receivedTokens } : null;
    this.#session = new DrivenSession(
      new RecordKeeper(records, deps.driverId, record),
      new PromptTokens(sessionId, tokenIds, policy.cutRule, complete),
      worker,
      decode,
      this.#aborter.signal,
      deps,
    );
    this.#keeping = new Alarm(deps.nowUnixMs);
    this.#deadline = new Alarm(deps.nowUnixMs);
    this.#clientWatch = new ClientWatch(sessionId, deps);
    this.#offer = new KeptOffer(this.#session);
    this.#upload = new SessionUpload(this.#session, (error) => {
      this.#failed(error);
    });
    this.#end = new SessionEnding(this.#session, onGone, stopped);
  }

  get sessionId(): string {
    return this.record.sessionId;
  }

  get record(): SessionRecord {
    return this.#session.record;
  }

  /** Aborts, with its error, if the session ends badly and its events cannot say so in time. */
  get untold(): AbortSignal {
    return this.#end.untold;
  }

  get members(): readonly FleetMember[] {
    return [this.#session.worker, this.#session.decode].filter((member) => member !== null);
  }

  /** Begins a new session. The record must exist, with this driver's lease. */
  start(): void {
    this.#upload.open();
    this.#hold();
    this.#run(async () => {
      await this.#accept();
      await this.#driveTurn(true);
    });
  }

  /** Goes on where another driver left a session. This driver must have its lease. */
  adopt(): void {
    this.#hold();
    const { state, uploadClosed, keepUntilUnixMs, resumeGraceMs } = this.record;
    if (state === 'kept') {
      this.#run(async () => {
        const { store } = this.deps;
        const sequence = await store.events.lastSequence(this.sessionId);
        this.#keep(await lastTokenOf(this.#session, sequence ?? 0), keepUntilUnixMs ?? 0);
      });
      return;
    }
    if (!uploadClosed) {
      this.#detach(this.end(uploadLost()));
      return;
    }
    this.#watchForClient(resumeGraceMs, notResumed());
    this.#run(async () => this.#driveTurn(false));
  }

  /** Prompt ids, in order. @throws ServingError PROMPT_TOO_LONG past the reservation */
  offer(ids: Uint32Array, waitingTokens: number): void {
    this.#upload.offer(ids, waitingTokens);
  }

  /** The prompt is complete. @throws ServingError EMPTY_PROMPT */
  closeUpload(): void {
    this.#upload.close();
  }

  /** The client is gone: acts as the header said. */
  disconnected(reason: ServingError): void {
    const { onDisconnect, resumeGraceMs, state } = this.record;
    if (state === 'kept' || this.#ending !== null) return;
    if (!this.#session.tokens.closed && onDisconnect === 'keep') {
      this.#detach(this.end(uploadCut())); // nobody can complete it
      return;
    }
    if (onDisconnect === 'cancel' || reason.code === 'DEADLINE_EXCEEDED') {
      this.#detach(this.end(reason));
      return;
    }
    this.#watchForClient(resumeGraceMs, reason);
  }

  /**
   * Ends the session badly (or cancels it), in whatever phase, and settles when its memory is free.
   * @returns false if it had ended before
   */
  async end(error: ServingError): Promise<boolean> {
    if (this.#ending !== null) {
      await this.#ending;
      return false;
    }
    this.#stop(error);
    this.#ending = this.#unlessElsewhere(async () => this.#end.fail(error, this.#work));
    await this.#ending;
    return true;
  }

  /**
   * Leaves the session to another driver, as it is; relays of its events here end with `error`.
   * @param uploadGraceMs how long an open upload may still take; then the session ends with `error`
   */
  async leave(error: ServingError, uploadGraceMs: number): Promise<void> {
    if (this.#ending === null && !this.record.uploadClosed) {
      const upload = this.#session.uploadEnd;
      if (!(await settledWithin(uploadGraceMs, upload))) await this.end(error);
    }
    if (this.#ending !== null) {
      await this.#ending;
      return;
    }
    this.#ending = Promise.resolve();
    this.#stop(error, 'elsewhere');
    await settledWithin(uploadGraceMs, this.#work);
    this.#end.leftUntold(error);
    try {
      await this.deps.store.records.dropLease(this.sessionId, this.deps.driverId);
    } finally {
      this.onGone();
    }
  }

  /** Frees a kept session. @returns false if it was not kept */
  async releaseKept(): Promise<boolean> {
    if (this.kept === null) return false;
    await this.#finish();
    return true;
  }

  /**
   * Another turn on a kept session.
   * @param kept what its ids were encoded for
   * @returns sequence after which the turn's events come
   * @throws ServingError SESSION_BUSY, SESSION_ENDED, VALUE_STORE_FULL, PROMPT_TOO_LONG; the session
   *   is then kept as before
   */
  async nextTurn(
    tokenIds: readonly number[],
    header: CheckedHeader,
    kept: KeptState,
  ): Promise<number> {
    if (this.kept !== kept) throw sessionBusy();
    this.#kept = null; // no other turn, no release by time
    this.#keeping.stop();
    try {
      const ids = Uint32Array.from(tokenIds);
      const opening = openNextTurn(this.#session, ids, header, kept.lastSequence);
      this.#work = opening.catch(() => undefined);
      await opening;
    } catch (error) {
      if (error instanceof LeaseLost) {
        this.#failed(error);
        throw drivenElsewhere();
      }
      if (this.#ending === null) this.#keep(kept, this.record.keepUntilUnixMs ?? 0);
      throw error;
    }
    this.#detach(this.#offer.withdraw());
    this.#armDeadline();
    this.#run(async () => {
      await this.#accept();
      await this.#driveTurn(false);
    });
    return kept.lastSequence;
  }

  /** What the next turn builds on; null unless the session is kept and idle. */
  get kept(): KeptState | null {
    return this.#ending === null ? this.#kept : null;
  }

  /** Nothing more begins here. */
  get isEnding(): boolean {
    return this.#ending !== null;
  }

  /** Settles when the turn under way has ended, or after `ms`. */
  async idle(ms: number): Promise<void> {
    await settledWithin(ms, this.#work);
  }

  /** Lease and deadline. */
  #hold(): void {
    this.#stopLease = renewLease(this.sessionId, this.deps, (to) => {
      if (this.#ending !== null) return;
      if (to === 'gone') this.#detach(this.end(sessionLost()));
      else this.#abandon(new LeaseLost('the lease has another holder'));
    });
    this.#armDeadline();
  }

  #run(work: () => Promise<void>): void {
    this.#work = work().catch((error: unknown) => {
      this.#failed(error);
    });
  }

  async #driveTurn(isNew: boolean): Promise<void> {
    const session = this.#session;
    const follower = new TurnFollower(session, isNew);
    if (!isNew) await follower.seen();
    const reuse = new PrefixReuse(session, isNew);
    const { keptUntilUnixMs, lastSequence } = await driveTurn(session, follower, reuse);
    if (this.isEnding) return;
    this.#deadline.stop();
    this.#clientWatch.stop();
    if (keptUntilUnixMs === null) {
      await this.#finish();
      return;
    }
    await closeTurn(session, follower.answer, keptUntilUnixMs);
    this.#keep(await lastTokenOf(session, lastSequence), keptUntilUnixMs);
  }

  async #accept(): Promise<void> {
    const { events } = this.deps.store;
    const { sessionId, epoch } = this.record;
    const appendId = newAppendId();
    await this.#session.surely(async () =>
      events.append(sessionId, epoch, acceptedEvent(this.record), { appendId }),
    );
  }

  #keep(kept: KeptState, untilUnixMs: number): void {
    if (this.isEnding) return;
    this.#kept = kept;
    this.#keeping.set(untilUnixMs, () => {
      this.#detach(this.releaseKept());
    });
    this.#detach(this.#offer.publish());
  }

  #watchForClient(graceMs: number, reason: ServingError): void {
    this.#clientWatch.start(graceMs, () => {
      this.#detach(this.end(reason));
    });
  }

  #armDeadline(): void {
    const { deadlineUnixMs } = this.record;
    if (deadlineUnixMs === null || this.record.state === 'kept') return;
    this.#deadline.set(deadlineUnixMs, () => {
      const error = new ServingError('DEADLINE_EXCEEDED', 'the deadline of the session has passed');
      this.#detach(this.end(error));
    });
  }

  async #finish(): Promise<void> {
    this.#stop(new ServingError('SESSION_ENDED', 'the session has ended'));
    this.#ending = this.#unlessElsewhere(async () => this.#end.finish());
    await this.#ending;
  }

  /** A driver that stood still may have lost the session without knowing: it must not end it then. */
  async #unlessElsewhere(end: () => Promise<void>): Promise<void> {
    if (!(await isElsewhere(this.#session))) {
      await end();
      return;
    }
    this.#end.leftUntold(drivenElsewhere());
    this.onGone();
  }

  /** @param goesOn 'elsewhere': what is kept, and offered, stays so under another driver */
  #stop(reason: ServingError, goesOn: 'elsewhere' | 'nowhere' = 'nowhere'): void {
    this.#kept = null;
    this.#keeping.stop();
    this.#deadline.stop();
    this.#clientWatch.stop();
    this.#stopLease();
    if (goesOn === 'elsewhere') this.#offer.leave();
    else this.#detach(this.#offer.withdraw());
    this.#aborter.abort(reason);
  }

  /** What the work threw: nothing new if the session is ending anyway. */
  #failed(error: unknown): void {
    if (this.#ending !== null) return;
    if (error instanceof LeaseLost) {
      this.#abandon(error);
      return;
    }
    if (!(error instanceof ServingError)) {
      this.deps.log.error({ err: error, sessionId: this.sessionId }, 'driver failed');
    }
    const told =
      error instanceof ServingError ? error : new ServingError('INTERNAL', 'internal error');
    this.#detach(this.end(told));
  }

  /** Another driver has the session: stop without touching it. */
  #abandon(error: LeaseLost): void {
    this.deps.log.warn({ sessionId: this.sessionId, reason: error.message }, 'session given up');
    const { records } = this.deps.store;
    this.#ending = Promise.resolve();
    this.#stop(drivenElsewhere(), 'elsewhere');
    // Held without the record's latest state it would keep the others from going on.
    this.#detach(records.dropLease(this.sessionId, this.deps.driverId));
    this.#end.leftUntold(drivenElsewhere());
    this.onGone();
  }

  /** For steps that nobody awaits. */
  #detach(step: Promise<unknown>): void {
    step.catch((error: unknown) => {
      const { sessionId } = this;
      this.deps.log.warn({ err: error, sessionId }, 'a step of ending the session failed');
    });
  }
}
