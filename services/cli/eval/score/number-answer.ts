import { spaceOut, splitWords } from './words.js';

/** InfiniteBench's passkey and number string: the first run of digits is the reference. */
export function firstNumber(prediction: string, reference: string): boolean {
  return /[0-9]+/.exec(prediction)?.[0] === reference;
}

/** InfiniteBench's Code.Run: the last word is a whole number, and the right one. */
export function lastInteger(prediction: string, reference: string): boolean {
  const words = splitWords(spaceOut(prediction, ['\n', '.', '`', "'", '"', ':']));
  const last = words.at(-1) ?? '';
  return /^[+-]?[0-9]+$/.test(last) && Number(last) === Number(reference);
}

/**
 * InfiniteBench's Math.Find: the first number, whole or decimal, has the reference's value. The
 * published script stops where a decimal meets a whole reference; here such a pair is compared.
 */
export function firstNumberValue(prediction: string, reference: string): boolean {
  const first = /[0-9]+\.[0-9]+|[0-9]+/.exec(prediction)?.[0];
  return first !== undefined && Number(first) === Number(reference);
}

/**
 * InfiniteBench's Math.Calc: how many whole numbers agree with the references before the first that
 * does not, over the number of references. A minus sign is not read, as in the published script; its
 * exception for GPT-4, whose first number is skipped, is not made.
 */
export function leadingIntegers(prediction: string, references: readonly string[]): number {
  const numbers = prediction.match(/[0-9]+/g) ?? [];
  const wrong = references.findIndex(
    (reference, at) => numbers[at] === undefined || Number(numbers[at]) !== Number(reference),
  );
  if (references.length === 0) return 0;
  return wrong === -1 ? 1 : wrong / references.length;
}
