import { createHash, randomInt } from 'node:crypto';
import { test, type TestContext } from 'node:test';

/** True in `npm run test:faults`: more rounds, longer prompts, every position. */
export const IS_LONG = process.env['LONGSHADOW_FAULT_FORM'] === 'long';
/** Times that each case runs, each with its own timing. */
export const ROUNDS = Number(process.env['LONGSHADOW_FAULT_ROUNDS'] ?? (IS_LONG ? 3 : 1));
/** The same seed gives the same choices. */
export const SEED = Number(process.env['LONGSHADOW_FAULT_SEED'] ?? randomInt(2 ** 31));

/** Choices of one round of one case: a function of the seed and its name. */
export class FaultRandom {
  #state: number;

  constructor(name: string) {
    this.#state = createHash('sha256').update(`${SEED} ${name}`).digest().readUInt32LE();
  }

  /** In [from, to). */
  between(from: number, to: number): number {
    // Mulberry32 (public domain): 32 bits of state are plenty for the timing of a few faults.
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let bits = this.#state;
    bits = Math.imul(bits ^ (bits >>> 15), bits | 1);
    bits ^= bits + Math.imul(bits ^ (bits >>> 7), bits | 61);
    return from + (((bits ^ (bits >>> 14)) >>> 0) / 2 ** 32) * (to - from);
  }

  /** A whole number in [from, to). */
  integer(from: number, to: number): number {
    return Math.floor(this.between(from, to));
  }
}

/** So that a case that hangs fails by its name; the slowest takes half a minute. */
const CASE_TIMEOUT_MS = 300_000;

/** A test for each round; its name carries the seed that repeats it. */
export function faultTest(
  name: string,
  body: (random: FaultRandom, context: TestContext) => Promise<void>,
): void {
  for (let round = 1; round <= ROUNDS; round += 1) {
    const title = `${name} (round ${round}, LONGSHADOW_FAULT_SEED=${SEED})`;
    test(title, { timeout: CASE_TIMEOUT_MS }, async (context) => {
      await body(new FaultRandom(`${name} ${round}`), context);
    });
  }
}
