import type { FleetMember } from '../../domain/fleet.js';
import { ServingError } from '../../domain/serving-error.js';
import { ENDED_STATES, type SessionRecord } from '../../domain/session-record.js';
import type { CheckedHeader } from '../admission/check-header.js';
import { reserveTurn } from '../admission/reserve-turn.js';
import type { DriveDeps } from './drive-deps.js';
import { freeSession } from './free-session.js';
import { Alarm } from './long-timer.js';
import { LeaseLost, RecordKeeper } from './record-keeper.js';
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

  /** @param onGone called once, when nothing of the session is driven here any more */
  constructor(
    private readonly placed: PlacedRecord,
    private readonly deps: DriveDeps,
    private readonly onGone: () => void,
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

  get memberIds(): readonly string[] {
    return [this.placed.worker.memberId, this.placed.decode.memberId];
  }

  /** Begins: lease, deadline, chunks. The record must exist, with this driver's lease. */
  start(): void {
    const onLost = (): void => {
      if (this.#ending === null) this.#abandon(new LeaseLost('the lease has another holder'));
    };
    this.#stops.push(renewLease(this.sessionId, this.deps, onLost));
    this.#armDeadline();
    this.#work = this.#drive().catch(async (error: unknown) => this.#failed(error));
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
    const written = this.#keeper.change(({ state }) => ({
      state: state === 'uploading' ? 'prefilling' : state,
      receivedTokens: this.#tokens.received,
      uploadClosed: true,
    }));
    written.catch(async (error: unknown) => this.#failed(error)).catch(() => undefined);
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
    this.#ending = this.#end(error);
    await this.#ending;
    return true;
  }

  /** Frees a kept session. @returns false if it was not kept */
  async releaseKept(): Promise<boolean> {
    if (this.kept === null) return false;
    this.#ending = this.#finish();
    await this.#ending;
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
    this.#work = this.#driveTurn(turn, kept.lastSequence).catch(async (error: unknown) =>
      this.#failed(error),
    );
    return kept.lastSequence;
  }

  /** What the next turn builds on; null unless the session is kept and idle. */
  get kept(): KeptState | null {
    return this.#ending === null ? this.#kept : null;
  }

  /** Settles when the turn under way has ended, or after `ms`. */
  async idle(ms: number): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise((resolve) => {
      timer = setTimeout(resolve, ms);
    });
    await Promise.race([this.#work, late]);
    clearTimeout(timer);
  }

  async #drive(): Promise<void> {
    const { deps } = this;
    const { decode, worker } = this.placed;
    await deps.store.events.append(this.sessionId, this.record.epoch, acceptedEvent(this.record));
    const turn = this.#follow(0, this.record.createdUnixMs);
    await Promise.race([runPrefill(this.#prefill, deps), failureOf(turn)]);
    const call = startCall(this.record, deps.nowUnixMs(), worker.address);
    await this.#keeper.change({ decodeId: decode.memberId });
    const started = deps.decodes.startSession(decode.address, call, this.#aborter.signal);
    await Promise.race([started, failureOf(turn)]);
    // The first tokens may be there already; the finished event too.
    if (this.#ending === null) await this.#keeper.change({ state: 'decoding' });
    await this.#finishTurn(await turn);
  }

  async #driveTurn(next: NextTurn, afterSequence: number): Promise<void> {
    const { deps } = this;
    await deps.store.events.append(this.sessionId, this.record.epoch, acceptedEvent(this.record));
    const turn = this.#follow(afterSequence, next.admittedUnixMs);
    const call = appendCall(this.record, next);
    const { address } = this.placed.decode;
    await Promise.race([
      deps.decodes.appendTurn(address, call, this.#aborter.signal),
      failureOf(turn),
    ]);
    await this.#finishTurn(await turn);
  }

  async #follow(afterSequence: number, askedUnixMs: number): Promise<FinishedTurn> {
    const { signal } = this.#aborter;
    const decodeId = this.placed.decode.memberId;
    const record = (): SessionRecord => this.record;
    const turn = followTurn({ record, decodeId, afterSequence, askedUnixMs, signal }, this.deps);
    turn.catch(() => undefined); // awaited at the turn's end; it may fail before
    return turn;
  }

  async #finishTurn({ keptUntilUnixMs, kept }: FinishedTurn): Promise<void> {
    if (this.#ending !== null) return;
    this.#deadline.stop();
    this.#grace.stop();
    if (keptUntilUnixMs === null) {
      this.#ending = this.#finish();
      await this.#ending;
      return;
    }
    await this.#keeper.change({ state: 'kept', keepUntilUnixMs: keptUntilUnixMs });
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

  /** The good end: memory is freed, the record says finished. */
  async #finish(): Promise<void> {
    this.#stop(new ServingError('SESSION_ENDED', 'the session has ended'));
    await this.#free();
    await this.#leave({ state: 'finished', keepUntilUnixMs: null }, 'finished');
  }

  async #end(error: ServingError): Promise<void> {
    const startedMs = performance.now();
    const { deps, sessionId } = this;
    const { state, epoch } = this.record;
    this.#stop(error);
    const { code, message, details } = error;
    const ended = code === 'CANCELLED' || code === 'DEADLINE_EXCEEDED' ? 'cancelled' : 'failed';
    const told = deps.store.events.append(sessionId, epoch, {
      type: 'error',
      code,
      message,
      details,
    });
    const removed =
      this.#prefill.currentJobId === null
        ? Promise.resolve()
        : deps.queues.remove(this.placed.worker.memberId, this.#prefill.currentJobId);
    await this.#logged(Promise.all([this.#free(), told, removed]));
    await this.#logged(this.#work);
    // A call that was on its way when the signal came may have arrived after the release.
    if (this.#mayHaveCallsUnderWay(state)) await this.#freeAgain();
    deps.metrics.cancelToFree(state, (performance.now() - startedMs) / 1_000);
    deps.log.info({ sessionId, state, code, reason: message }, 'session ended early');
    await this.#leave({ state: ended, keepUntilUnixMs: null }, code);
  }

  #mayHaveCallsUnderWay(state: SessionRecord['state']): boolean {
    return state !== 'kept' && !ENDED_STATES.has(state);
  }

  async #freeAgain(): Promise<void> {
    const { currentJobId } = this.#prefill;
    const { memberId } = this.placed.worker;
    if (currentJobId !== null) await this.#logged(this.deps.queues.remove(memberId, currentJobId));
    await this.#free();
  }

  async #free(): Promise<void> {
    const { worker, decode } = this.placed;
    const { sessionId, epoch } = this.record;
    await freeSession({ sessionId, epoch, worker, decode }, this.deps);
  }

  /** Writes the end down and gives back what is promised. */
  async #leave(
    change: { readonly state: SessionRecord['state']; readonly keepUntilUnixMs: null },
    outcome: string,
  ): Promise<void> {
    const { deps, sessionId } = this;
    const { records, reservations } = deps.store;
    const { reservation } = this.record;
    await this.#logged(this.#keeper.change(change));
    if (reservation !== null) {
      await this.#logged(reservations.release(reservation.storeId, sessionId));
    }
    await this.#logged(records.expireEnded(sessionId));
    await this.#logged(records.dropLease(sessionId, deps.driverId));
    deps.metrics.ended(outcome);
    this.onGone();
  }

  #stop(reason: ServingError): void {
    this.#kept = null;
    for (const alarm of [this.#keeping, this.#deadline, this.#grace]) alarm.stop();
    for (const stop of this.#stops) stop();
    this.#aborter.abort(reason);
  }

  /** What #drive threw: nothing new if the session is ending anyway. */
  async #failed(error: unknown): Promise<void> {
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
    return Promise.resolve();
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
