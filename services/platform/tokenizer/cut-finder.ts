/**
 * Tells whether text may be split between two neighbouring characters (code points) without
 * changing its ids: encode(left) followed by encode(right) is encode(left + right), whatever the
 * rest of the text is.
 */
export type IsSafeCut = (left: number, right: number) => boolean;

/**
 * The last safe cut of `text` at index `from` or later, or -1 if there is none. Index i cuts before
 * text[i]; it is neither 0 nor inside a surrogate pair. A lone surrogate at the end waits for its
 * second half.
 */
export function lastSafeCut(text: string, from: number, isSafeCut: IsSafeCut): number {
  for (let at = text.length - 1; at >= Math.max(from, 1); at -= 1) {
    const right = text.codePointAt(at) ?? 0;
    if (isSurrogate(right)) continue;
    if (isSafeCut(codePointBefore(text, at), right)) return at;
  }
  return -1;
}

function codePointBefore(text: string, at: number): number {
  const unit = text.charCodeAt(at - 1);
  return isSurrogate(unit) ? (text.codePointAt(at - 2) ?? unit) : unit;
}

function isSurrogate(unit: number): boolean {
  return unit >= 0xd800 && unit <= 0xdfff;
}
