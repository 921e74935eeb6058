import { z } from 'zod';
import type { BenchmarkSample } from '../benchmark-types.js';

/*
 * The fields have changed their names and types between releases: `content` for `context`, `question`
 * for `input`, an answer with or without a list around it. All of them are read.
 */

const OPTION_LETTERS = ['A', 'B', 'C', 'D'] as const;
const OPTION_COUNT = OPTION_LETTERS.length;

const context = z.string().min(1, 'must be the text to read');
const input = z.string().min(1, 'must be the question');
const answerItem = z.union([z.string(), z.number()]);
const answers = z
  .union([answerItem, z.array(answerItem)], 'must be a text, a number, or a list of them')
  .transform((answer) => [answer].flat().map(String))
  .refine((list) => list.length > 0, 'must hold an answer');
const wholeNumber = z.union([z.int(), z.string().regex(/^-?\d+$/, 'must be a whole number')]);
const values = z
  .union(
    [z.array(wholeNumber), z.array(z.array(wholeNumber)).length(1)],
    'must be a list of whole numbers',
  )
  .transform((list) => list.flat().map(String))
  .refine((list) => list.length > 0, 'must hold a number');

/** A context, a question as `input`, and what may be answered. */
export function parseQuestion(value: unknown): BenchmarkSample {
  const line = z.object({ context, input, answer: answers }).parse(renamed(value));
  return sample(line.context, { input: line.input, question: line.input }, line.answer);
}

/** A context whose task is in the prompt. */
export function parseContextOnly(value: unknown): BenchmarkSample {
  const line = z.object({ context, answer: answers }).parse(renamed(value));
  return sample(line.context, {}, line.answer);
}

/** A question with four options; the references are the right one's text and letter. */
export function parseChoice(value: unknown): BenchmarkSample {
  const line = z
    .object({
      context,
      input: z.string().default(''),
      options: z.array(z.string()).length(OPTION_COUNT, `must be ${OPTION_COUNT} texts`),
      answer: answers,
    })
    .refine(({ options, answer }) => options.includes(answer[0] ?? ''), {
      path: ['answer'],
      message: 'must be one of the options',
    })
    .parse(renamed(value));
  const { options, answer } = line;
  const named = OPTION_LETTERS.map(
    (letter, at) => [`OPTION_${letter}`, options[at] ?? ''] as const,
  );
  const right = answer[0] ?? '';
  return sample(line.context, { question: line.input, ...Object.fromEntries(named) }, [
    right,
    OPTION_LETTERS[options.indexOf(right)] ?? '',
  ]);
}

/** The function and its call stand in the question, as `func_12(-3)`. */
export function parseCodeRun(value: unknown): BenchmarkSample {
  const call = /func_[0-9]+\(-?[0-9]+\)/;
  const line = z
    .object({ context, input: z.string().regex(call, 'must hold a call'), answer: answers })
    .parse(renamed(value));
  const [found = ''] = call.exec(line.input) ?? [];
  const names = { func: found.slice(0, found.indexOf('(')), func_call: found };
  return sample(line.context, names, line.answer);
}

/** The question says `The largest number of the list is:`; the prompt asks it once more before. */
export function parseMathFind(value: unknown): BenchmarkSample {
  const asked = /(The .+) of/;
  const line = z
    .object({ context, input: z.string().regex(asked, 'must say "The ... of"'), answer: answers })
    .parse(renamed(value));
  const wanted = asked.exec(line.input)?.[1]?.toLowerCase() ?? '';
  const prefix = `What is ${wanted} in the following list?`;
  return sample(line.context, { prefix, input: line.input }, line.answer);
}

/** A long sum; the references are its values after each term. */
export function parseCalculation(value: unknown): BenchmarkSample {
  const line = z.object({ context, answer: values }).parse(renamed(value));
  return sample(line.context, {}, line.answer);
}

function renamed(value: unknown): unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value;
  const { content, question, func_call: call, ...line } = value as Record<string, unknown>;
  return {
    ...line,
    context: line['context'] ?? content,
    input: call ?? question ?? line['input'],
  };
}

function sample(
  text: string,
  named: Readonly<Record<string, string>>,
  references: readonly string[],
): BenchmarkSample {
  return { context: text, values: named, references, classes: [] };
}
