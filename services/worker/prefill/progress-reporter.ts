import type { ProgressEvent, PromptLogprob } from '../../domain/session-event.js';
import type { SessionEvents } from '../../domain/session-store.js';

/** Progress events of one chunk come at most this often. */
export const PROGRESS_INTERVAL_MS = 200;
/** Log-probabilities in one event; a chunk of more sends several. */
export const LOGPROBS_PER_EVENT = 2048;

/** Why a session's stream takes no progress any more. */
export type Refusal = 'stale-epoch' | 'ended' | 'unknown';

export interface ProgressReporterOptions {
  readonly events: Pick<SessionEvents, 'append'>;
  readonly sessionId: string;
  readonly epoch: number;
  /** Number of the turn whose prompt is prefilled. */
  readonly turn: number;
  /** Names this chunk's last events, so that a repetition of the job tells them once. */
  readonly chunkName: string;
  /** The event for a share of the running chunk's work. */
  readonly describe: (share: number) => Omit<ProgressEvent, 'type' | 'promptLogprobs'>;
  readonly nowMs: () => number;
  /** The session's stream takes no more: it or the turn has ended, or there is another epoch. */
  readonly onRefused: (refusal: Refusal) => void;
  readonly onError: (error: unknown) => void;
}

/**
 * Appends a chunk's progress to the session's stream: coalesced while the chunk runs, so that a
 * slow Redis never holds up the engine, and always once at its end.
 */
export class ProgressReporter {
  #lastMs: number;
  #appending: Promise<void> | null = null;

  constructor(private readonly options: ProgressReporterOptions) {
    this.#lastMs = options.nowMs();
  }

  /** The engine's callback. Drops what comes too soon or while an event is under way. */
  update(share: number): void {
    const nowMs = this.options.nowMs();
    if (this.#appending !== null || nowMs - this.#lastMs < PROGRESS_INTERVAL_MS) return;
    this.#lastMs = nowMs;
    this.#appending = this.#append(share, [])
      .catch(this.options.onError)
      .finally(() => {
        this.#appending = null;
      });
  }

  /**
   * The chunk's last events. Rejects when Redis cannot be reached: the log-probabilities matter.
   * Calling it again is safe.
   */
  async finish(promptLogprobs: readonly PromptLogprob[]): Promise<void> {
    await this.settle();
    for (let begin = 0; begin === 0 || begin < promptLogprobs.length; begin += LOGPROBS_PER_EVENT) {
      const some = promptLogprobs.slice(begin, begin + LOGPROBS_PER_EVENT);
      await this.#append(1, some, `${this.options.chunkName}-${String(begin)}`);
    }
  }

  /** Waits for an event that is under way. */
  async settle(): Promise<void> {
    await this.#appending;
  }

  async #append(
    share: number,
    promptLogprobs: readonly PromptLogprob[],
    appendId?: string,
  ): Promise<void> {
    const { events, sessionId, epoch, turn, describe, onRefused } = this.options;
    const event: ProgressEvent = { type: 'progress', ...describe(share), promptLogprobs };
    const options = appendId === undefined ? { turn } : { turn, appendId };
    const answer = await events.append(sessionId, epoch, event, options);
    if (answer === 'stale-epoch' || answer === 'ended' || answer === 'unknown') onRefused(answer);
  }
}
