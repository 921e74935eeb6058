import { ServingError } from '../../domain/serving-error.js';
import { ENDED_STATES, type SessionRecord } from '../../domain/session-record.js';
import type { DrivenSession } from './driven-session.js';
import { freeSession } from './free-session.js';
import { leaveSession } from './leave-session.js';
import { retryWhileRedisIsAway, settledWithin } from './redis-gap.js';

/** What an end waits for Redis, before it goes on behind the caller's back. */
const REDIS_PATIENCE_MS = 1_000;

/**
 * How a session ends here: its memory is freed at once; its events, its record and what was reserved
 * follow as soon as Redis takes them.
 */
export class SessionEnding {
  readonly #untold = new AbortController();

  /**
   * @param onGone called once, when nothing of the session is driven here any more
   * @param stopped aborts when the router waits for Redis no longer
   */
  constructor(
    private readonly session: DrivenSession,
    private readonly onGone: () => void,
    private readonly stopped: AbortSignal,
  ) {}

  /** Aborts, with its error, if the session ends badly and its events cannot say so in time. */
  get untold(): AbortSignal {
    return this.#untold.signal;
  }

  /** Tells whoever relays the session's events here what they cannot say. */
  leftUntold({ code, message, details }: ServingError): void {
    this.#untold.abort(new ServingError(code, message, details));
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
    const { log, metrics } = this.session.deps;
    const { state, sessionId } = this.session.record;
    const { code, message } = error;
    const told = this.#tell(error);
    await Promise.all([this.#free(), this.#removeJob()]);
    await work;
    // A call that was on its way when the signal came may have arrived after the release.
    const opened = state !== 'kept' || this.session.record.state !== 'kept';
    if (opened && !ENDED_STATES.has(state)) {
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
  async #tell(error: ServingError): Promise<void> {
    const { code, message, details } = error;
    const { record, deps } = this.session;
    const { sessionId, epoch } = record;
    const event = { type: 'error', code, message, details } as const;
    const told = retryWhileRedisIsAway(this.stopped, async () =>
      deps.store.events.append(sessionId, epoch, event),
    );
    const inTime = await settledWithin(REDIS_PATIENCE_MS, told);
    const answer = inTime ? await told.catch(() => 'unknown') : 'unknown';
    // 'ended': its events say already how it ended.
    if (answer === 'unknown' || answer === 'stale-epoch') this.leftUntold(error);
    await this.#logged(told);
  }

  async #removeJob(): Promise<void> {
    const { currentJob, deps } = this.session;
    if (currentJob === null) return;
    const removed = this.#logged(deps.queues.remove(currentJob.workerId, currentJob.jobId));
    await settledWithin(REDIS_PATIENCE_MS, removed);
  }

  async #free(): Promise<void> {
    const { record, worker, decode, deps } = this.session;
    const { sessionId, epoch } = record;
    const storeId = record.reservation?.storeId ?? null;
    await this.#logged(freeSession({ sessionId, epoch, worker, decode, storeId }, deps));
  }

  /** Writes the end down and gives back what is promised. */
  async #leave(state: SessionRecord['state'], outcome: string): Promise<void> {
    const { keeper, deps } = this.session;
    await this.#logged(leaveSession(keeper, state, deps, this.stopped));
    deps.metrics.ended(outcome);
    this.onGone();
  }

  async #logged(step: Promise<unknown>): Promise<void> {
    try {
      await step;
    } catch (error) {
      const { sessionId, deps } = this.session;
      deps.log.warn({ err: error, sessionId }, 'a step of ending the session failed');
    }
  }
}
