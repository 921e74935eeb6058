import { ServingError } from '../../domain/serving-error.js';

/** Pauses between tries, doubled each time. */
const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 1_000;
/** A gap that lasts longer fails the job; its driver, which waits as well, puts it back. */
export const LONGEST_GAP_MS = 60_000;

/** Time, as it passes for whoever waits for Redis. */
export interface GapClock {
  readonly nowMs: () => number;
  readonly pause: (ms: number) => Promise<void>;
}

/**
 * Runs an operation again and again while Redis cannot be reached. It must be safe to repeat.
 *
 * @param isOver asked before each pause: whether nobody wants the outcome any more
 * @throws ServingError REDIS_UNAVAILABLE when it is over or the gap too long; what else it throws
 */
export async function retryOverGap<T>(
  operation: () => Promise<T>,
  isOver: () => boolean,
  { nowMs, pause }: GapClock,
): Promise<T> {
  const giveUpMs = nowMs() + LONGEST_GAP_MS;
  for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS)) {
    try {
      return await operation();
    } catch (error) {
      if (!isRedisAway(error) || isOver() || nowMs() + pauseMs > giveUpMs) throw error;
    }
    await pause(pauseMs);
  }
}

function isRedisAway(error: unknown): boolean {
  return error instanceof ServingError && error.code === 'REDIS_UNAVAILABLE';
}
