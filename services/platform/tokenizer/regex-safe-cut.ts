/*
 * Safe cuts of byte-level BPE, which first splits text into words by a regular expression. Merges
 * never cross words, and a match never depends on what lies before it (no look-behind), so a cut is
 * safe exactly where (1) a match always ends and (2) the match before the cut is the same when the
 * text ends there. All supported expressions (GPT-2, Llama-3 and GLM-4, Qwen2; each with or without
 * a digit splitter before it) agree on two such places:
 *
 * - before U+0020 after anything but white space. A space can only begin a match or stand among
 *   white space, and only white space is matched with a look at what follows (`\s+(?!\S)`).
 * - after a letter or digit, before a punctuation mark or line break. Letters and digits only ever
 *   end a match (` ?\p{L}+`, `\p{N}{1,3}`, `'s`), and they do so greedily.
 *
 * A splitter that goes before them may part letters from letters by a look at their neighbours (the
 * embedded model's, of capitals): neither place has letters on both sides, so it never sees a cut.
 *
 * Normalisation to NFC must not reach across either: U+0020 and the marks listed here never compose
 * with what is before them, and the letters listed here are what NFC leaves. The lists hold only
 * characters whose class has been the same in every Unicode version that a library may carry.
 */

const SPACE = 0x20;

/** Ranges of letters and digits, inclusive. */
const LETTERS_AND_DIGITS: readonly (readonly [number, number])[] = [
  [0x30, 0x39],
  [0x41, 0x5a],
  [0x61, 0x7a],
  [0xc0, 0xd6],
  [0xd8, 0xf6],
  [0xf8, 0x24f],
  [0x391, 0x3a1], // Greek
  [0x3a3, 0x3a9],
  [0x3b1, 0x3c9],
  [0x410, 0x44f], // Cyrillic
  [0x3041, 0x3096], // Hiragana
  [0x30a1, 0x30fa], // Katakana
  [0x4e00, 0x9fa5], // Han
  [0xac00, 0xd7a3], // Hangul
];

/** Ranges of punctuation, symbols and line breaks, inclusive. */
const SEPARATORS: readonly (readonly [number, number])[] = [
  [0x09, 0x0d],
  [0x21, 0x2f],
  [0x3a, 0x40],
  [0x5b, 0x60],
  [0x7b, 0x7e],
  [0x2010, 0x2027],
  [0x3001, 0x3003], // CJK comma, full stop
  [0x3008, 0x3011], // CJK brackets
  [0xff01, 0xff0f], // full-width punctuation
  [0xff1a, 0xff20],
];

/** White space and controls of any Unicode version, inclusive. */
const WHITE_SPACE: readonly (readonly [number, number])[] = [
  [0x00, 0x20],
  [0x7f, 0xa0],
  [0x1680, 0x1680],
  [0x180e, 0x180e],
  [0x2000, 0x200f],
  [0x2028, 0x202f],
  [0x205f, 0x2064],
  [0x3000, 0x3000],
  [0xfeff, 0xfeff],
];

/** The rule above. Arguments are code points; see IsSafeCut. */
export function isRegexSafeCut(left: number, right: number): boolean {
  if (right === SPACE) return !isIn(WHITE_SPACE, left);
  return isIn(SEPARATORS, right) && isIn(LETTERS_AND_DIGITS, left);
}

function isIn(ranges: readonly (readonly [number, number])[], codePoint: number): boolean {
  return ranges.some(([first, last]) => codePoint >= first && codePoint <= last);
}
