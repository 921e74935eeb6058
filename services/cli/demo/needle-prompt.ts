import type { ChatMessage } from '../rpc/prompt-parts.js';
import { SeededRandom } from '../text/seeded-random.js';

/** A fact hidden in a long text. */
export interface Needle {
  /** `word-word`. */
  readonly key: string;
  /** Seven digits. */
  readonly number: string;
  /** Where it is planted: share of the text before it, [0, 1). */
  readonly depth: number;
}

const FIRST_WORDS = ['amber', 'brisk', 'coral', 'dusty', 'early', 'frosty', 'golden', 'hollow'];
const SECOND_WORDS = ['anchor', 'beacon', 'candle', 'drum', 'ember', 'falcon', 'garden', 'harbor'];
/** Keys that differ. */
export const MOST_NEEDLES = FIRST_WORDS.length * SECOND_WORDS.length;

/** Up to MOST_NEEDLES needles with distinct keys at even depths; the same for the same seed. */
export function makeNeedles(seed: number, count: number): Needle[] {
  const random = new SeededRandom(String(seed));
  const keys = FIRST_WORDS.flatMap((first) => SECOND_WORDS.map((second) => `${first}-${second}`));
  return Array.from({ length: count }, (_, index) => ({
    key: keys.splice(random.integer(0, keys.length), 1)[0] ?? '',
    number: String(random.integer(1_000_000, 10_000_000)),
    depth: (index + 0.5) / count,
  }));
}

/** The first `characters` of a text with the needles planted between sentences. */
export function plantNeedles(text: string, characters: number, needles: readonly Needle[]): string {
  let planted = '';
  let from = 0;
  for (const { key, number, depth } of needles) {
    const to = sentenceEnd(text, Math.floor(characters * depth), characters);
    planted += `${text.slice(from, to)} One of the special magic numbers for ${key} is: ${number}. `;
    from = to;
  }
  return planted + text.slice(from, characters);
}

/** The text as system message, then the question: the model's template puts them in order. */
export function askForNeedle(text: string, { key }: Needle): ChatMessage[] {
  return [
    { role: 'system', content: text },
    {
      role: 'user',
      content: `What is the special magic number for ${key} mentioned in the text above?`,
    },
  ];
}

/** True if the first seven-digit number of the answer is the needle's. */
export function isRightAnswer(answer: string, { number }: Needle): boolean {
  return /\d{7,}/.exec(answer)?.[0] === number;
}

/** Place after the first full stop from `from` on, at most `limit`. */
function sentenceEnd(text: string, from: number, limit: number): number {
  const stop = /[.!?](?=\s)/g;
  stop.lastIndex = from;
  const found = stop.exec(text);
  return found === null ? from : Math.min(found.index + 1, limit);
}
