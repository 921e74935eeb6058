import type { FleetMember } from '../../domain/fleet.js';
import { ServingError } from '../../domain/serving-error.js';
import type { SessionRecord } from '../../domain/session-record.js';
import type { CheckedHeader } from '../admission/check-header.js';
import { reserveTurn, shrinkReservation } from '../admission/reserve-turn.js';
import { newAppendId } from '../../platform/session-store/append-id.js';
import type { DriveDeps } from './drive-deps.js';
import { Alarm } from './long-timer.js';
import { SessionEnding } from './session-ending.js';
import { LeaseLost, RecordKeeper, type RecordChange } from './record-keeper.js';
import { retryWhileRedisIsAway, settledWithin, unlessAborted } from './redis-gap.js';
import { renewLease } from './renew-lease.js';
import { type PrefillRun, runPrefill } from './run-prefill.js';
import { TokenBuffer } from './token-buffer.js';
import { type FinishedTurn, followTurn } from './follow-turn.js';
import type { KeptState } from './kept-state.js';
import { acceptedEvent, appendCall, type NextTurn, startCall, turnChange } from './turn-calls.js';

/** A session as admission placed it. */
export interface PlacedRecord {
  readonly record: SessionRecord;
  readonly worker: FleetMember;
  readonly decode: FleetMember;
}

/**
 * Drives one session from its admission to its end: upload, chunks, seal, decode, release. One abort
 * signal stops whatever is under way; then memory is freed at worker and decode, whatever the phase.
 */
export class SessionRun {
  readonly #keeper: RecordKeeper;
  readonly #tokens = new TokenBuffer();
  readonly #aborter = new AbortController();
  readonly #stops: (() => void)[] = [];
  readonly #prefill: PrefillRun;
  #work: Promise<void> = Promise.resolve();
  #ending: Promise<void> | null = null;
  readonly #keeping: Alarm;
  readonly #deadline: Alarm;
  /** Runs while a turn has no client; the next turn has one again. */
  readonly #grace: Alarm;
  #kept: KeptState | null = null;
  readonly #end: SessionEnding;

  /**
   * @param onGone called once, when nothing of the session is driven here any more
   * @param stopped aborts when the router waits for Redis no longer
   */
  constructor(
    private readonly placed: PlacedRecord,
    private readonly deps: DriveDeps,
    private readonly onGone: () => void,
    stopped: AbortSignal,
  ) {
    this.#keeper = new RecordKeeper(deps.store.records, deps.driverId, placed.record);
    this.#keeping = new Alarm(deps.nowUnixMs);
    this.#deadline = new Alarm(deps.nowUnixMs);
    this.#grace = new Alarm(deps.nowUnixMs);
    this.#prefill = {
      keeper: this.#keeper,
      tokens: this.#tokens,
      workerId: placed.worker.memberId,
      signal: this.#aborter.signal,
      currentJobId: null,
    };
    const { worker, decode } = placed;
    this.#end = new SessionEnding(
      {
        keeper: this.#keeper,
        prefill: this.#prefill,
        members: { worker, decode },
        onGone,
        stopped,
      },
      deps,
    );
  }

  get sessionId(): string {
    return this.placed.record.sessionId;
  }

  get record(): SessionRecord {
    return this.#keeper.current;
  }

  /** Ids of the model are below it. */
  get vocabSize(): number {
    return this.placed.worker.vocabSize;
  }

  /** Aborts, with its error, if the session ends badly and its events cannot say so in time. */
  get untold(): AbortSignal {
    return this.#end.untold;
  }

  get members(): readonly FleetMember[] {
    return [this.placed.worker, this.placed.decode];
  }

  /** Begins: lease, deadline, chunks. The record must exist, with this driver's lease. */
  start(): void {
    const onLost = (): void => {
      if (this.#ending === null) this.#abandon(new LeaseLost('the lease has another holder'));
    };
    this.#stops.push(renewLease(this.sessionId, this.deps, onLost));
    this.#armDeadline();
    this.#work = this.#drive().catch((error: unknown) => {
      this.#failed(error);
    });
  }

  /** Prompt ids, in order. @throws ServingError PROMPT_TOO_LONG past the reservation */
  offer(ids: Uint32Array, waitingTokens: number): void {
    this.#aborter.signal.throwIfAborted();
    const { maxPromptTokens } = this.record;
    if (this.#tokens.received + ids.length + waitingTokens > maxPromptTokens) {
      throw new ServingError(
        'PROMPT_TOO_LONG',
        `the prompt passes max_prompt_tokens (${String(maxPromptTokens)}) at this part; ask for more in the header`,
        {
          fieldViolations: [
            { field: 'max_prompt_tokens', description: 'at least the length of the prompt' },
          ],
        },
      );
    }
    this.#tokens.append(ids);
  }

  /** The prompt is complete. @throws ServingError EMPTY_PROMPT */
  closeUpload(): void {
    this.#aborter.signal.throwIfAborted();
    if (this.#tokens.received === 0) {
      throw new ServingError(
        'EMPTY_PROMPT',
        'the prompt has no tokens; send at least one part with content',
      );
    }
    this.#tokens.close();
    this.#promptIsComplete().catch((error: unknown) => {
      this.#failed(error);
    });
  }

  /** Also gives back what was reserved for a longer prompt. */
  async #promptIsComplete(): Promise<void> {
    const receivedTokens = this.#tokens.received;
    await this.#change(({ state }) => ({
      state: state === 'uploading' ? 'prefilling' : state,
      receivedTokens,
      uploadClosed: true,
    }));
    const tokens = receivedTokens + this.record.generation.stopping.maxNewTokens;
    const { reservations } = this.deps.store;
    const reservation = await this.#surely(async () =>
      shrinkReservation(this.record, this.placed.worker, tokens, reservations),
    );
    if (reservation !== this.record.reservation) await this.#change({ reservation });
  }

  /** The client is gone: acts as the header said. */
  disconnected(reason: ServingError): void {
    const { onDisconnect, resumeGraceMs, state } = this.record;
    if (state === 'kept' || this.#ending !== null) return;
    if (onDisconnect === 'cancel' || reason.code === 'DEADLINE_EXCEEDED') {
      this.#detach(this.end(reason));
      return;
    }
    this.#grace.set(this.deps.nowUnixMs() + resumeGraceMs, () => {
      this.#detach(this.end(reason));
    });
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
    this.#ending = this.#end.fail(error, this.#work);
    await this.#ending;
    return true;
  }

  /** Frees a kept session. @returns false if it was not kept */
  async releaseKept(): Promise<boolean> {
    if (this.kept === null) return false;
    await this.#finish();
    return true;
  }

  /**
   * Another turn on a kept session, which decode appends itself.
   * @returns sequence after which the turn's events come
   * @throws ServingError SESSION_BUSY, SESSION_ENDED, VALUE_STORE_FULL, PROMPT_TOO_LONG; the session
   *   is then kept as before
   */
  async nextTurn(tokenIds: readonly number[], header: CheckedHeader): Promise<number> {
    const { kept } = this;
    if (kept === null) throw sessionBusy();
    this.#kept = null; // no other turn, no release by time
    this.#keeping.stop();
    this.#grace.stop();
    const admittedUnixMs = this.deps.nowUnixMs();
    try {
      const tokens = kept.tokens + tokenIds.length + header.generation.stopping.maxNewTokens;
      const { reservations, events } = this.deps.store;
      const reservation = await reserveTurn(this.record, this.placed.worker, tokens, reservations);
      await events.beginTurn(this.sessionId);
      await this.#keeper.change(({ turn }) => turnChange(turn + 1, header, reservation));
    } catch (error) {
      this.#keep(kept, this.record.keepUntilUnixMs ?? 0);
      throw error;
    }
    this.#armDeadline();
    const turn = { tokenIds, cachedTokens: kept.tokens, admittedUnixMs };
    this.#work = this.#driveTurn(turn, kept.lastSequence).catch((error: unknown) => {
      this.#failed(error);
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

  async #drive(): Promise<void> {
    const { deps } = this;
    const { decode, worker } = this.placed;
    await this.#accept();
    const turn = this.#follow(0, this.record.createdUnixMs);
    await Promise.race([runPrefill(this.#prefill, deps), failureOf(turn)]);
    const call = startCall(this.record, deps.nowUnixMs(), worker.address);
    await this.#change({ decodeId: decode.memberId });
    const started = deps.decodes.startSession(decode.address, call, this.#aborter.signal);
    await Promise.race([started, failureOf(turn)]);
    // The first tokens may be there already; the finished event too.
    if (this.#ending === null) await this.#change({ state: 'decoding' });
    await this.#finishTurn(await turn);
  }

  async #driveTurn(next: NextTurn, afterSequence: number): Promise<void> {
    const { deps } = this;
    await this.#accept();
    const turn = this.#follow(afterSequence, next.admittedUnixMs);
    const call = appendCall(this.record, next);
    const { address } = this.placed.decode;
    await Promise.race([
      deps.decodes.appendTurn(address, call, this.#aborter.signal),
      failureOf(turn),
    ]);
    await this.#finishTurn(await turn);
  }

  async #accept(): Promise<void> {
    const { events } = this.deps.store;
    const { sessionId, epoch } = this.record;
    const appendId = newAppendId();
    await this.#surely(async () =>
      events.append(sessionId, epoch, acceptedEvent(this.record), { appendId }),
    );
  }

  /** Waits while Redis is away, until the session ends. */
  async #surely<T>(operation: () => Promise<T>): Promise<T> {
    return retryWhileRedisIsAway(this.#aborter.signal, operation);
  }

  async #change(change: RecordChange | ((record: SessionRecord) => RecordChange)): Promise<void> {
    return this.#surely(async () => this.#keeper.change(change));
  }

  async #follow(afterSequence: number, askedUnixMs: number): Promise<FinishedTurn> {
    const { signal } = this.#aborter;
    const { decode } = this.placed;
    const record = (): SessionRecord => this.record;
    const turn = unlessAborted(signal, async () =>
      followTurn({ record, decode, afterSequence, askedUnixMs, signal }, this.deps),
    );
    turn.catch(() => undefined); // awaited at the turn's end; it may fail before
    return turn;
  }

  async #finishTurn({ keptUntilUnixMs, kept }: FinishedTurn): Promise<void> {
    if (this.#ending !== null) return;
    this.#deadline.stop();
    this.#grace.stop();
    if (keptUntilUnixMs === null) {
      await this.#finish();
      return;
    }
    await this.#change({ state: 'kept', keepUntilUnixMs: keptUntilUnixMs });
    this.#keep(kept, keptUntilUnixMs);
  }

  #keep(kept: KeptState, untilUnixMs: number): void {
    this.#kept = kept;
    this.#keeping.set(untilUnixMs, () => {
      this.#detach(this.releaseKept());
    });
  }

  #armDeadline(): void {
    const { deadlineUnixMs } = this.record;
    if (deadlineUnixMs === null) return;
    this.#deadline.set(deadlineUnixMs, () => {
      const error = new ServingError('DEADLINE_EXCEEDED', 'the deadline of the session has passed');
      this.#detach(this.end(error));
    });
  }

  async #finish(): Promise<void> {
    this.#stop(new ServingError('SESSION_ENDED', 'the session has ended'));
    this.#ending = this.#end.finish();
    await this.#ending;
  }

  #stop(reason: ServingError): void {
    this.#kept = null;
    for (const alarm of [this.#keeping, this.#deadline, this.#grace]) alarm.stop();
    for (const stop of this.#stops) stop();
    this.#aborter.abort(reason);
  }

  /** What #drive threw: nothing new if the session is ending anyway. */
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
    this.#ending = Promise.resolve();
    this.#stop(new ServingError('SESSION_BUSY', 'the session is driven elsewhere'));
    this.onGone();
  }

  /** For ends that nobody awaits. */
  #detach(ending: Promise<unknown>): void {
    this.#logged(ending).catch(() => undefined);
  }

  async #logged(step: Promise<unknown>): Promise<void> {
    try {
      await step;
    } catch (error) {
      this.deps.log.warn(
        { err: error, sessionId: this.sessionId },
        'a step of ending the session failed',
      );
    }
  }
}

/** Rejects when the turn fails; never settles when it ends well. */
async function failureOf(turn: Promise<unknown>): Promise<never> {
  await turn;
  return new Promise(() => undefined);
}

export function sessionBusy(): ServingError {
  return new ServingError('SESSION_BUSY', 'the session is not idle; wait for its last turn to end');
}
