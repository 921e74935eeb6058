import { createHash } from 'node:crypto';

/** Numbers that depend on a seed alone: the n-th is 48 bits of SHA-256 of (seed, n). */
export class SeededRandom {
  #drawn = 0;

  /** @param seed any text, such as `42/niah_single_1/4096/0` */
  constructor(private readonly seed: string) {}

  /** Uniform in [0, 1). */
  next(): number {
    this.#drawn += 1;
    const digest = createHash('sha256')
      .update(`${this.seed}:${String(this.#drawn)}`)
      .digest();
    return digest.readUIntBE(0, 6) / 2 ** 48;
  }

  /** Uniform whole number in [from, to). */
  integer(from: number, to: number): number {
    return from + Math.floor(this.next() * (to - from));
  }

  /** `count` different items, in random order. @throws RangeError if there are fewer */
  sample<T>(items: readonly T[], count: number): T[] {
    if (count > items.length) throw new RangeError(`${String(count)} of ${String(items.length)}`);
    const rest = [...items];
    return Array.from({ length: count }, () => {
      const at = this.integer(0, rest.length);
      const taken = rest[at] as T;
      rest[at] = rest[rest.length - 1] as T;
      rest.pop();
      return taken;
    });
  }

  shuffle<T>(items: readonly T[]): T[] {
    return this.sample(items, items.length);
  }
}
