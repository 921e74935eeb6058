import { ServingError } from '../../../domain/serving-error.js';
import type { SeededRandom } from '../../text/seeded-random.js';
import type { WordLists } from './words.js';

export type NeedleKind = 'numbers' | 'words' | 'uuids';

const MOST_TRIES = 10_000;

/** Draws keys and values that differ from one another and do not stand in the haystack already. */
export class NeedleDraw {
  readonly #drawn = new Set<string>();

  /** @param isTaken true for a text that must not be drawn, such as one that the haystack holds */
  constructor(
    private readonly random: SeededRandom,
    private readonly words: WordLists,
    private readonly isTaken: (text: string) => boolean,
  ) {}

  /** @throws ServingError BAD_REQUEST if the word lists are too short for so many */
  next(kind: NeedleKind): string {
    for (let tries = 0; tries < MOST_TRIES; tries += 1) {
      const text = this.#draw(kind);
      if (this.#drawn.has(text) || this.isTaken(text)) continue;
      this.#drawn.add(text);
      return text;
    }
    throw new ServingError(
      'BAD_REQUEST',
      `the word lists are too short for ${String(this.#drawn.size)} different keys: name longer ones`,
    );
  }

  #draw(kind: NeedleKind): string {
    const { random, words } = this;
    if (kind === 'numbers') return String(random.integer(1_000_000, 10_000_000));
    if (kind === 'uuids') return randomUuid(random);
    return `${pick(random, words.adjectives)}-${pick(random, words.nouns)}`;
  }
}

/** True if one of the texts contains the other, so that finding one is not finding the other. */
export function overlaps(one: string, other: string): boolean {
  return one.includes(other) || other.includes(one);
}

/** Version 4, from a document's own random numbers. */
function randomUuid(random: SeededRandom): string {
  const digits = (count: number): string =>
    random
      .integer(0, 16 ** count)
      .toString(16)
      .padStart(count, '0');
  const variant = random.integer(8, 12).toString(16);
  return `${digits(8)}-${digits(4)}-4${digits(3)}-${variant}${digits(3)}-${digits(12)}`;
}

function pick<T>(random: SeededRandom, items: readonly T[]): T {
  return items[random.integer(0, items.length)] as T;
}
