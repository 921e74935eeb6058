import type { IsSafeCut } from './cut-finder.js';

/** How SentencePiece writes a space inside a token. */
export const SPACE_MARK = '▁';

const BYTE_TOKEN = /^<0x[0-9A-F]{2}>$/;

/**
 * Safe cuts of SentencePiece-like BPE, where no splitter runs and merges may join any neighbours.
 *
 * A merge makes a token of the vocabulary. If no token holds `left` directly followed by `right`, no
 * merge ever joins across that place, so both sides merge as they would alone. Byte tokens
 * (`<0x0A>`) stand for characters outside the vocabulary and are never merged.
 */
export function adjacencySafeCut(vocabulary: Readonly<Record<string, number>>): IsSafeCut {
  const pairs = new Set<number>();
  for (const token of Object.keys(vocabulary)) {
    if (BYTE_TOKEN.test(token)) continue;
    let previous: number | null = null;
    for (const character of token) {
      const codePoint = character.codePointAt(0) ?? 0;
      if (previous !== null) pairs.add(pairKey(previous, codePoint));
      previous = codePoint;
    }
  }
  return (left, right) => !pairs.has(pairKey(written(left), written(right)));
}

/** Both are below 2^21, so the key is exact. */
function pairKey(left: number, right: number): number {
  return left * 0x200000 + right;
}

function written(codePoint: number): number {
  return codePoint === 0x20 ? (SPACE_MARK.codePointAt(0) ?? 0) : codePoint;
}
