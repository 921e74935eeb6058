/** Pause before a member that died is started again, in milliseconds. */
const FIRST_PAUSE_MS = 1_000;
const LONGEST_PAUSE_MS = 30_000;
/** A member that served this long is trusted again: its next pause is the first one. */
const TRUSTED_AFTER_MS = 60_000;
/** Starts in a row that may fail before the member is given up. */
const MOST_FAILED_STARTS = 5;

/** When a member that ended on its own is started again: after 1 s, doubled each time up to 30 s. */
export class BackOff {
  #nextPauseMs = FIRST_PAUSE_MS;
  #failedStarts = 0;

  /** The member served for `servedMs` and ended. @returns the pause before its next start */
  ended(servedMs: number): number {
    this.#failedStarts = 0;
    if (servedMs >= TRUSTED_AFTER_MS) this.#nextPauseMs = FIRST_PAUSE_MS;
    return this.#takePause();
  }

  /** A start failed. @returns the pause before the next one; null: enough, give it up */
  failedToStart(): number | null {
    this.#failedStarts += 1;
    return this.#failedStarts >= MOST_FAILED_STARTS ? null : this.#takePause();
  }

  #takePause(): number {
    const pauseMs = this.#nextPauseMs;
    this.#nextPauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS);
    return pauseMs;
  }
}
