import { sequenceRatio } from './sequence-ratio.js';

/**
 * LongBench's code completion: the first line of the prediction that is no comment and no fence
 * (without a backquote, `#` or `//`) against the right next line, by fuzzywuzzy's ratio, which is a
 * whole number of per cent. That package takes another ratio where python-Levenshtein is installed;
 * LongBench's score is the one without.
 */
export function codeSimilarity(prediction: string, reference: string): number {
  const lines = prediction.replace(/^\n+/, '').split('\n');
  const code = lines.find((line) => !/`|#|\/\//.test(line)) ?? '';
  if (code === reference) return 1;
  return roundHalfToEven(100 * sequenceRatio(code, reference)) / 100;
}

/** As Python rounds: 12.5 becomes 12 and 13.5 becomes 14. */
function roundHalfToEven(value: number): number {
  const below = Math.floor(value);
  if (value - below !== 0.5) return Math.round(value);
  return below % 2 === 0 ? below : below + 1;
}
