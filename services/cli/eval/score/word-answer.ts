import { spaceOut, splitWords } from './words.js';

const SENTENCE_MARKS = ['\n', '"', "'", '.', ',', '?', '!', '{', '}'];

/** InfiniteBench's Retrieve.KV: the reference is one of the words, punctuation aside. */
export function keyValueRetrieval(prediction: string, reference: string): boolean {
  return splitWords(spaceOut(prediction, [...SENTENCE_MARKS, ':'])).includes(reference);
}

/** InfiniteBench's En.Dia: the first reference, as written, is one of the upper-cased words. */
export function dialogueName(prediction: string, reference: string): boolean {
  return splitWords(spaceOut(prediction, [...SENTENCE_MARKS, ':']))
    .map((word) => word.toUpperCase())
    .includes(reference);
}
