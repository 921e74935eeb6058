import { setTimeout as delay } from 'node:timers/promises';
import { ServingError } from '../../domain/serving-error.js';

/** Pauses between tries, doubled each time. */
const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 2_000;

/**
 * Runs an operation again and again until Redis answers it. The operation must be safe to repeat.
 * @throws the signal's reason as soon as it aborts, and whatever else the operation throws
 */
export async function retryWhileRedisIsAway<T>(
  signal: AbortSignal,
  operation: () => Promise<T>,
): Promise<T> {
  for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS)) {
    try {
      return await unlessAborted(signal, operation);
    } catch (error) {
      if (signal.aborted || !isRedisAway(error)) throw error;
    }
    await unlessAborted(signal, async () => delay(pauseMs));
  }
}

/** @throws the signal's reason as soon as it aborts; the operation's answer is then not awaited */
export async function unlessAborted<T>(
  signal: AbortSignal,
  operation: () => Promise<T>,
): Promise<T> {
  signal.throwIfAborted();
  return new Promise((resolve, reject) => {
    const onAbort = (): void => {
      reject(signal.reason as Error);
    };
    signal.addEventListener('abort', onAbort, { once: true });
    operation()
      .then(resolve, reject)
      .finally(() => {
        signal.removeEventListener('abort', onAbort);
      });
  });
}

/** Settles with the promise, or after `ms` without it. @returns whether it has settled */
export async function settledWithin(ms: number, promise: Promise<unknown>): Promise<boolean> {
  const settled = promise.then(
    () => true,
    () => true,
  );
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<boolean>((resolve) => {
    timer = setTimeout(resolve, ms, false);
  });
  try {
    return await Promise.race([settled, late]);
  } finally {
    clearTimeout(timer);
  }
}

function isRedisAway(error: unknown): boolean {
  return error instanceof ServingError && error.code === 'REDIS_UNAVAILABLE';
}
