import { chineseWords } from './chinese-words.js';
import { longestCommonSubsequence } from './longest-common-subsequence.js';
import { splitWords } from './words.js';

/**
 * LongBench's ROUGE-L: the F value of the Python package `rouge`, which differs from Lin's paper.
 * Sentences end at full stops; the words of each longest common subsequence are gathered in a set
 * that all sentences share, and lengths too are numbers of different words. A text without words
 * scores 0. That package recurses once a word and fails on sentences of about a thousand words,
 * which LongBench scores 0; this one does not.
 */
export function rougeL(prediction: string, reference: string): number {
  const [predicted, wanted] = [sentences(prediction), sentences(reference)];
  if (predicted.length === 0 || wanted.length === 0) return 0;
  const shared = new Set<string>();
  for (const wantedWords of wanted) {
    for (const words of predicted) {
      for (const at of longestCommonSubsequence(wantedWords, words, 'drop-second')) {
        shared.add(wantedWords[at] ?? '');
      }
    }
  }
  const precision = shared.size / new Set(predicted.flat()).size;
  const recall = shared.size / new Set(wanted.flat()).size;
  return (2 * precision * recall) / (precision + recall + 1e-8);
}

/** The same over jieba's words, which is LongBench's Chinese ROUGE-L. */
export function rougeLChinese(prediction: string, reference: string): number {
  return rougeL(chineseWords(prediction).join(' '), chineseWords(reference).join(' '));
}

/** A sentence of spaces alone has one word, the empty one, as in the package. */
function sentences(text: string): string[][] {
  return text
    .split('.')
    .filter((sentence) => sentence !== '')
    .map((sentence) => splitWords(sentence).join(' ').split(' '));
}
