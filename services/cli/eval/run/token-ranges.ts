import { ServingError } from '../../../domain/serving-error.js';
import type { TokenRange } from '../../../domain/token-range.js';

/** A span of UTF-16 units, half-open. */
export interface CharacterSpan {
  readonly id: string;
  readonly begin: number;
  readonly end: number;
}

/**
 * The tokens that hold any character of each span.
 *
 * @param offsets of each token: [begin, end) in code points, in order
 * @throws ServingError BAD_REQUEST for a span that no token touches
 */
export function tokenRanges(
  text: string,
  offsets: readonly (readonly number[])[],
  spans: readonly CharacterSpan[],
): TokenRange[] {
  const codePoint = codePointIndex(text);
  return spans.map(({ id, begin, end }) => {
    const [from, to] = [codePoint(begin), codePoint(end)];
    const beginToken = firstIndex(offsets.length, (at) => (offsets[at]?.[1] ?? 0) > from);
    const endToken = firstIndex(offsets.length, (at) => (offsets[at]?.[0] ?? 0) >= to);
    if (beginToken < endToken) return { beginToken, endToken };
    throw new ServingError(
      'BAD_REQUEST',
      `target ${id}, characters ${String(begin)} to ${String(end)}, holds no token`,
    );
  });
}

/** From UTF-16 units to code points: the same less the surrogate pairs before. */
function codePointIndex(text: string): (unit: number) => number {
  const pairs = [...text.matchAll(/[\ud800-\udbff][\udc00-\udfff]/g)].map(({ index }) => index);
  return (unit) => unit - firstIndex(pairs.length, (at) => (pairs[at] ?? 0) >= unit);
}

/** The least index in [0, length) from which `holds` is true, else `length`. */
function firstIndex(length: number, holds: (at: number) => boolean): number {
  let [low, high] = [0, length];
  while (low < high) {
    const middle = Math.floor((low + high) / 2);
    if (holds(middle)) high = middle;
    else low = middle + 1;
  }
  return low;
}
