import { setTimeout as sleep } from 'node:timers/promises';
import { ownTime } from './own-time.js';

/**
 * Asks again and again until `done` holds; returns the value that satisfied it.
 *
 * @param withinMs of this machine's own time
 * @throws Error with the last value when `withinMs` has passed
 */
export async function poll<Value>(
  ask: () => Promise<Value> | Value,
  done: (value: Value) => boolean,
  withinMs: number,
  everyMs = 10,
): Promise<Value> {
  const passedMs = ownTime();
  for (;;) {
    const value = await ask();
    if (done(value)) return value;
    if (passedMs() > withinMs) {
      throw new Error(`not so within ${withinMs} ms; the last value: ${JSON.stringify(value)}`);
    }
    await sleep(everyMs);
  }
}
