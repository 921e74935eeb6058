import { ServingError } from '../../domain/serving-error.js';
import { ENDED_STATES, type SessionRecord } from '../../domain/session-record.js';
import type { DriveDeps } from './drive-deps.js';
import { freeSession, type Members } from './free-session.js';
import { leaveSession } from './leave-session.js';
import type { RecordKeeper } from './record-keeper.js';
import { retryWhileRedisIsAway, settledWithin } from './redis-gap.js';
import type { PrefillRun } from './run-prefill.js';

/** What an end waits for Redis, before it goes on behind the caller's back. */
const REDIS_PATIENCE_MS = 1_000;

export interface EndingSession {
  readonly keeper: RecordKeeper;
  readonly prefill: PrefillRun;
  readonly members: Members;
  /** Called once, when nothing of the session is driven here any more. */
  readonly onGone: () => void;
  /** Aborts when the router waits for Redis no longer. */
  readonly stopped: AbortSignal;
}

/**
 * How a session ends here: its memory is freed at once; its events, its record and what was reserved
 * follow as soon as Redis takes them.
 */
export class SessionEnding {
  readonly #untold = new AbortController();

  constructor(
    private readonly session: EndingSession,
    private readonly deps: DriveDeps,
  ) {}

  /** Aborts, with its error, if the session ends badly and its events cannot say so in time. */
  get untold(): AbortSignal {
    return this.#untold.signal;
  }

  /** The good end. Settles when memory is free. */
  async finish(): Promise<void> {
    await this.#free();
    await settledWithin(REDIS_PATIENCE_MS, this.#leave('finished', 'finished'));
  }

  /**
   * Any other end. Settles when memory is free.
   * @param work what was under way; it has been aborted
   */
  async fail(error: ServingError, work: Promise<void>): Promise<void> {
    const startedMs = performance.now();
    const { log, metrics } = this.deps;
    const { state, sessionId } = this.session.keeper.current;
    const { code, message } = error;
    const told = this.#tell(error);
    await Promise.all([this.#free(), this.#removeJob()]);
    await work;
    // A call that was on its way when the signal came may have arrived after the release.
    if (state !== 'kept' && !ENDED_STATES.has(state)) {
      await this.#removeJob();
      await this.#free();
    }
    metrics.cancelToFree(state, (performance.now() - startedMs) / 1_000);
    log.info({ sessionId, state, code, reason: message }, 'session ended early');
    const ended = code === 'CANCELLED' || code === 'DEADLINE_EXCEEDED' ? 'cancelled' : 'failed';
    const left = told.then(async () => this.#leave(ended, code));
    await settledWithin(REDIS_PATIENCE_MS, left);
  }

  /** Says in the events how the session ended; whoever cannot wait for that hears of it by `untold`. */
  async #tell({ code, message, details }: ServingError): Promise<void> {
    const { keeper, stopped } = this.session;
    const { sessionId, epoch } = keeper.current;
    const event = { type: 'error', code, message, details } as const;
    const told = retryWhileRedisIsAway(stopped, async () =>
      this.deps.store.events.append(sessionId, epoch, event),
    );
    const inTime = await settledWithin(REDIS_PATIENCE_MS, told);
    if (!inTime) this.#untold.abort(new ServingError(code, message, details));
    await this.#logged(told);
  }

  async #removeJob(): Promise<void> {
    const { workerId, currentJobId } = this.session.prefill;
    if (currentJobId === null) return;
    const removed = this.#logged(this.deps.queues.remove(workerId, currentJobId));
    await settledWithin(REDIS_PATIENCE_MS, removed);
  }

  async #free(): Promise<void> {
    const { keeper, members } = this.session;
    const { sessionId, epoch } = keeper.current;
    await this.#logged(freeSession({ sessionId, epoch, ...members }, this.deps));
  }

  /** Writes the end down and gives back what is promised. */
  async #leave(state: SessionRecord['state'], outcome: string): Promise<void> {
    const { keeper, onGone, stopped } = this.session;
    await this.#logged(leaveSession(keeper, state, this.deps, stopped));
    this.deps.metrics.ended(outcome);
    onGone();
  }

  async #logged(step: Promise<unknown>): Promise<void> {
    try {
      await step;
    } catch (error) {
      const { sessionId } = this.session.keeper.current;
      this.deps.log.warn({ err: error, sessionId }, 'a step of ending the session failed');
    }
  }
}
