import { ServingError } from '../../domain/serving-error.js';
import type { InterruptedEvent, SequencedEvent } from '../../domain/session-event.js';
import { unlessAborted } from './redis-gap.js';
import type { DrivenSession } from './driven-session.js';

export interface FinishedTurn {
  /** Null if the session is released now. */
  readonly keptUntilUnixMs: number | null;
  /** The turn's finished event. */
  readonly lastSequence: number;
}

/**
 * Follows the events of a turn, whoever appends them: what was answered so far is what another decode
 * has to go on from.
 */
export class TurnFollower {
  /** Ids of the answer, in order. */
  readonly answer: number[] = [];
  firstTokenUnixMs: number | null = null;
  /**
   * The turn's good end. Rejects with the error event that ended the session (a cancel by another
   * router among them), SESSION_LOST, or the signal's reason.
   */
  readonly finished: Promise<FinishedTurn>;
  /** Whether `finished` has settled, or is about to: all events were seen. */
  over = false;
  #sequence: number;
  #interruption: InterruptedEvent | null = null;
  #wakes: (() => void)[] = [];

  /** @param isLive false while events that are there already are read again */
  constructor(
    private readonly session: DrivenSession,
    private isLive: boolean,
  ) {
    this.#sequence = session.record.turn.afterSequence;
    this.finished = unlessAborted(session.signal, async () => this.#follow());
    const ended = (): void => {
      this.over = true;
    };
    this.finished.then(ended, ended); // awaited at the turn's end; it may fail before
  }

  /** Settles when all events up to `sequence` were seen. */
  async caughtUp(sequence: number): Promise<void> {
    while (this.#sequence < sequence) await this.#woken();
  }

  /** Settles when all events that are there now were seen; the turn may be over then. */
  async seen(): Promise<void> {
    const { deps, sessionId } = this.session;
    const last = await this.session.surely(async () => deps.store.events.lastSequence(sessionId));
    await Promise.race([this.caughtUp(last ?? 0), this.finished.catch(() => undefined)]);
    this.#interruption = null;
    this.isLive = true;
  }

  /** Forgets an interruption that was seen: a decode takes the turn now. */
  beginAttempt(): void {
    this.#interruption = null;
  }

  /** Settles when the decode of this attempt gives the turn back. */
  async interrupted(): Promise<InterruptedEvent> {
    for (;;) {
      if (this.#interruption !== null) return this.#interruption;
      await this.#woken();
    }
  }

  async #follow(): Promise<FinishedTurn> {
    const { deps, sessionId, signal } = this.session;
    const stop = new AbortController();
    const onAbort = (): void => {
      stop.abort(signal.reason);
    };
    signal.addEventListener('abort', onAbort, { once: true });
    try {
      const events = deps.store.events.follow(sessionId, this.#sequence, stop.signal);
      for await (const event of events) {
        const finished = this.#take(event);
        this.over = finished !== null;
        this.#sequence = event.sequence;
        this.#wake();
        if (finished !== null) return finished;
      }
    } finally {
      signal.removeEventListener('abort', onAbort);
      stop.abort(); // ends the subscription
    }
    signal.throwIfAborted();
    throw new ServingError('INTERNAL', 'the event stream of the session ended');
  }

  #take({ sequence, event }: SequencedEvent): FinishedTurn | null {
    const { deps, record, ownInterruptions } = this.session;
    if (event.type === 'error') throw new ServingError(event.code, event.message, event.details);
    if (event.type === 'interrupted' && !ownInterruptions.has(sequence)) this.#interruption = event;
    if (event.type === 'token') {
      if (event.index === 0 && this.isLive) {
        this.firstTokenUnixMs = deps.nowUnixMs();
        const seconds = (this.firstTokenUnixMs - record.turn.admittedUnixMs) / 1_000;
        deps.metrics.timeToFirstToken(record.model, seconds);
      }
      this.answer.push(event.tokenId);
    }
    if (event.type !== 'finished') return null;
    const { promptTokens, cachedTokens, completionTokens } = event.report;
    const computed = promptTokens - cachedTokens;
    const counts = { computed, cached: cachedTokens, generated: completionTokens };
    deps.metrics.tokens(record.model, counts);
    return { keptUntilUnixMs: event.keptUntilUnixMs, lastSequence: sequence };
  }

  async #woken(): Promise<void> {
    await new Promise<void>((resolve) => this.#wakes.push(resolve));
  }

  #wake(): void {
    for (const wake of this.#wakes.splice(0)) wake();
  }
}
