import type { FleetMember } from '../../domain/fleet.js';
import { ServingError } from '../../domain/serving-error.js';
import type { FinishedEvent, SessionEvent } from '../../domain/session-event.js';
import { ENDED_STATES, type SessionRecord } from '../../domain/session-record.js';
import type { DriveDeps } from './drive-deps.js';
import { freeSession } from './free-session.js';
import { ringAt } from './long-timer.js';
import { LeaseLost, RecordKeeper } from './record-keeper.js';
import { type PrefillRun, runPrefill } from './run-prefill.js';
import { TokenBuffer } from './token-buffer.js';
import { followTurn } from './follow-turn.js';

const LEASE_RENEWAL_MS = 2_000;

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
  #stopKeeping: () => void = () => undefined;

  /** @param onGone called once, when nothing of the session is driven here any more */
  constructor(
    private readonly placed: PlacedRecord,
    private readonly deps: DriveDeps,
    private readonly onGone: () => void,
  ) {
    this.#keeper = new RecordKeeper(deps.store.records, deps.driverId, placed.record);
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
    const { deps } = this;
    const renewal = setInterval(() => {
      this.#renewLease().catch((error: unknown) => {
        deps.log.warn({ err: error, sessionId: this.sessionId }, 'lease not renewed');
      });
    }, LEASE_RENEWAL_MS);
    this.#stops.push(() => {
      clearInterval(renewal);
    });
    const { deadlineUnixMs } = this.record;
    if (deadlineUnixMs !== null) {
      this.#stops.push(
        ringAt(deadlineUnixMs, deps.nowUnixMs, () => {
          const error = new ServingError(
            'DEADLINE_EXCEEDED',
            'the deadline of the session has passed',
          );
          this.#detach(this.end(error));
        }),
      );
    }
    this.#work = this.#drive().catch(async (error: unknown) => this.#failed(error));
  }

  /** Prompt ids, in order. @throws ServingError PROMPT_TOO_LONG past the reservation */
  offer(ids: Uint32Array): void {
    this.#aborter.signal.throwIfAborted();
    const { maxPromptTokens } = this.record;
    if (this.#tokens.received + ids.length > maxPromptTokens) {
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
    const graceEnds = this.deps.nowUnixMs() + resumeGraceMs;
    const stop = ringAt(graceEnds, this.deps.nowUnixMs, () => {
      if (this.record.state !== 'kept') this.#detach(this.end(reason));
    });
    this.#stops.push(stop);
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
    if (this.record.state !== 'kept' || this.#ending !== null) return false;
    this.#ending = this.#finish();
    await this.#ending;
    return true;
  }

  async #drive(): Promise<void> {
    const { deps } = this;
    const { signal } = this.#aborter;
    const { model, modelFingerprint, policy, reservation, epoch } = this.record;
    const accepted: SessionEvent = {
      type: 'accepted',
      model,
      modelFingerprint,
      policy,
      reservedBytes: reservation?.bytes ?? 0,
      reservedTokens: reservation?.tokens ?? 0,
    };
    await deps.store.events.append(this.sessionId, epoch, accepted);
    const turn = followTurn(
      {
        record: () => this.record,
        decodeId: this.placed.decode.memberId,
        afterSequence: 0,
        askedUnixMs: this.record.createdUnixMs,
        signal,
      },
      deps,
    );
    turn.catch(() => undefined); // awaited below; may fail first
    await Promise.race([runPrefill(this.#prefill, deps), failureOf(turn)]);
    const prefilledUnixMs = deps.nowUnixMs();
    await this.#keeper.change({ decodeId: this.placed.decode.memberId });
    await Promise.race([this.#startDecode(prefilledUnixMs), failureOf(turn)]);
    // The first tokens may be there already; the finished event too.
    if (this.#ending === null) await this.#keeper.change({ state: 'decoding' });
    await this.#finishTurn(await turn);
  }

  async #startDecode(prefilledUnixMs: number): Promise<void> {
    const { worker, decode } = this.placed;
    const record = this.record;
    const segmentBytes = record.segments.reduce((total, { bytes }) => total + bytes, 0);
    const context = {
      policy: record.policy,
      admittedUnixMs: record.createdUnixMs,
      prefilledUnixMs,
      promptTokens: record.receivedTokens,
      cachedTokens: 0,
      workerIds: record.lane,
      segmentBytes,
      promptReran: false,
      keepSessionMs: record.keepSessionMs,
      deadlineUnixMs: record.deadlineUnixMs,
    };
    const { sessionId, epoch, fingerprint, generation, traceparent } = record;
    await this.deps.decodes.startSession(
      decode.address,
      {
        sessionId,
        epoch,
        fingerprint,
        generation,
        traceparent,
        context,
        workerAddress: worker.address,
      },
      this.#aborter.signal,
    );
  }

  async #finishTurn(finished: FinishedEvent): Promise<void> {
    if (this.#ending !== null) return;
    const { keptUntilUnixMs } = finished;
    if (keptUntilUnixMs === null) {
      this.#ending = this.#finish();
      await this.#ending;
      return;
    }
    await this.#keeper.change({ state: 'kept', keepUntilUnixMs: keptUntilUnixMs });
    this.#stopKeeping = ringAt(keptUntilUnixMs, this.deps.nowUnixMs, () => {
      this.#detach(this.releaseKept());
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
    this.#stopKeeping();
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

  async #renewLease(): Promise<void> {
    const { records } = this.deps.store;
    if (await records.takeLease(this.sessionId, this.deps.driverId)) return;
    if (this.#ending === null) this.#abandon(new LeaseLost('the lease has another holder'));
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
