import { spaceOut, splitWords } from './words.js';

const LETTERS = 'ABCD';

/**
 * InfiniteBench's En.MC. The first of these that applies decides: the prediction begins with a letter
 * of A to D; it is the answer's text; it says `answer is:` or the like, and the answer follows; a word
 * of it is a letter, or several in order (`BC`, which is then wrong).
 *
 * @param answer the right option's text and letter
 */
export function choice(prediction: string, answer: readonly string[]): boolean {
  const said = prediction.trim();
  const begin = said.charAt(0);
  if (begin === '') return false;
  if (LETTERS.includes(begin)) return answer.includes(begin);
  if (answer.includes(said)) return true;
  const spaced = spaceOut(said, ['\n', '"', "'", '.', ',', '?', '!', '{', '}']).replace(/ +/g, ' ');
  const after = afterFirst(spaced, ['answer is:', 'answer:', 'answer is', 'option is']);
  if (after !== null) return answer.some((form) => after.startsWith(form));
  const letter = splitWords(spaced).find((word) => LETTERS.includes(word));
  return letter !== undefined && answer.includes(letter);
}

/**
 * InfiniteBench's Code.Debug: the prediction begins with the right letter and `.` or `:`, or says
 * `answer is:` or the like, and the letter or the function's name follows.
 *
 * @param answer the right function's name and letter
 */
export function codeDebug(prediction: string, answer: readonly string[]): boolean {
  const said = prediction.trim();
  const letter = answer.at(-1) ?? '';
  if (said.startsWith(`${letter}.`) || said.startsWith(`${letter}:`)) return true;
  const spaced = spaceOut(said, ['\n', '`', "'", '"', '-', '*', 'Option', 'option']);
  // The published list ends with 'correct option is:', which can never be found: 'is:' is in it.
  const after = afterFirst(spaced.replace(/ +/g, ' '), ['answer is:', 'is:', 'answer:']);
  return after !== null && answer.some((form) => after.startsWith(form));
}

/** What follows the first phrase of the list that occurs, less one character; null without one. */
function afterFirst(text: string, phrases: readonly string[]): string | null {
  const phrase = phrases.find((candidate) => text.includes(candidate));
  return phrase === undefined ? null : text.slice(text.indexOf(phrase) + phrase.length + 1);
}
