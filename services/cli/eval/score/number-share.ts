import { digitRuns } from './words.js';

/** LongBench's counting: the share of the prediction's whole numbers that are the right one. */
export function countShare(prediction: string, reference: string): number {
  const numbers = digitRuns(prediction);
  const right = numbers.filter((number) => number === reference).length;
  return numbers.length === 0 ? 0 : right / numbers.length;
}

/**
 * LongBench's passage retrieval: the same for the number in a reference such as `Paragraph 7`.
 * A reference without one scores 0.
 */
export function retrievalShare(
  prediction: string,
  reference: string,
  label: 'Paragraph ' | '段落',
): number {
  const number = new RegExp(`${label}(\\p{Nd}+)`, 'u').exec(reference)?.[1];
  return number === undefined ? 0 : countShare(prediction, number);
}
