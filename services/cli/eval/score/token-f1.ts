import { chineseWords } from './chinese-words.js';
import { normaliseChinese, normaliseEnglish } from './normalise-answer.js';
import { splitWords } from './words.js';

/** Question answering as SQuAD scores it: F1 of the normalised words. */
export function englishF1(prediction: string, reference: string): number {
  return tokenF1(splitWords(normaliseEnglish(prediction)), splitWords(normaliseEnglish(reference)));
}

/** LongBench's Chinese question answering: F1 of jieba's words, punctuation aside. */
export function chineseWordF1(prediction: string, reference: string): number {
  return tokenF1(normalisedChineseWords(prediction), normalisedChineseWords(reference));
}

/** InfiniteBench's Chinese question answering: F1 of characters, punctuation aside. */
export function chineseCharacterF1(prediction: string, reference: string): number {
  return tokenF1(Array.from(normaliseChinese(prediction)), Array.from(normaliseChinese(reference)));
}

/** F1 of two multisets of tokens; 0 where they share none. */
export function tokenF1(prediction: readonly string[], reference: readonly string[]): number {
  const left = countTokens(reference);
  let same = 0;
  for (const token of prediction) {
    const count = left.get(token) ?? 0;
    if (count === 0) continue;
    left.set(token, count - 1);
    same += 1;
  }
  // 2pr / (p + r) with p = same / |prediction| and r = same / |reference|.
  return same === 0 ? 0 : (2 * same) / (prediction.length + reference.length);
}

function normalisedChineseWords(text: string): string[] {
  return chineseWords(text)
    .map(normaliseChinese)
    .filter((word) => word !== '');
}

function countTokens(tokens: readonly string[]): Map<string, number> {
  const counts = new Map<string, number>();
  for (const token of tokens) counts.set(token, (counts.get(token) ?? 0) + 1);
  return counts;
}
