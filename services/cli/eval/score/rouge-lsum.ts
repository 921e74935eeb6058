import { longestCommonSubsequence } from './longest-common-subsequence.js';

/**
 * InfiniteBench's summaries: `rougeLsum` of Hugging Face evaluate, that is of Google's rouge_score
 * without a stemmer. Sentences are lines, words are runs of a-z and 0-9 of the lower-cased text. Each
 * line of the reference is held against all lines of the prediction; a word counts as often as both
 * texts have it, at most.
 */
export function rougeLsum(prediction: string, reference: string): number {
  const [predicted, wanted] = [lines(prediction), lines(reference)];
  const [predictedLeft, wantedLeft] = [countWords(predicted), countWords(wanted)];
  const [predictedWords, wantedWords] = [predicted.flat().length, wanted.flat().length];
  if (predictedWords === 0 || wantedWords === 0) return 0;
  let hits = 0;
  for (const line of wanted) {
    for (const word of sharedWords(line, predicted)) {
      const [here, there] = [wantedLeft.get(word) ?? 0, predictedLeft.get(word) ?? 0];
      if (here === 0 || there === 0) continue;
      wantedLeft.set(word, here - 1);
      predictedLeft.set(word, there - 1);
      hits += 1;
    }
  }
  return (2 * hits) / (predictedWords + wantedWords);
}

/** The words of `line` that are in a longest common subsequence with any of the others. */
function sharedWords(line: readonly string[], others: readonly string[][]): string[] {
  const positions = new Set(
    others.flatMap((other) => longestCommonSubsequence(line, other, 'drop-first')),
  );
  return line.filter((_, at) => positions.has(at));
}

function lines(text: string): string[][] {
  return text.split('\n').map((line) => line.toLowerCase().match(/[a-z0-9]+/g) ?? []);
}

function countWords(texts: readonly string[][]): Map<string, number> {
  const counts = new Map<string, number>();
  for (const word of texts.flat()) counts.set(word, (counts.get(word) ?? 0) + 1);
  return counts;
}
