import { ServingError } from '../../../domain/serving-error.js';
import type { EvalDocument } from '../eval-types.js';
import { makeMidprompt } from './midprompt.js';
import { makeNeedleGrid } from './needle-grid.js';
import { makePerplexity } from './perplexity.js';
import { makeCommonWords } from './ruler/common-words.js';
import { makeFrequentWords } from './ruler/frequent-words.js';
import { makeNiah } from './ruler/niah.js';
import { makeQuestionAnswering } from './ruler/question-answering.js';
import {
  CWE_WORDING,
  FWE_WORDING,
  NIAH_TASKS,
  type NiahParameters,
  niahWording,
  QA_WORDING,
  VT_WORDING,
} from './ruler/templates.js';
import { makeVariableTracking } from './ruler/variable-tracking.js';
import type { TaskDefinition, TaskRequest } from './task-types.js';

/**
 * Every task whose documents are generated, and how to make one:
 *
 * ```ts
 * const sources = new TaskSources({ squadFile });              // task-sources.ts
 * sources.check(findTask('qa_1').needs);                       // refuses wrong paths at once
 * const document = await makeDocument('qa_1', { lengthTokens, index, seed, counter, sources });
 * ```
 *
 * A document depends on seed, task, length and index (and the words, texts and tokenizer it is made
 * with), never on what was made before.
 */
export const EVAL_TASKS: readonly TaskDefinition[] = [
  ...Object.entries(NIAH_TASKS).map(([name, kind]) => niahTask(name, kind)),
  {
    name: 'vt',
    summary: 'variables that hold one value through a chain of assignments',
    needs: [],
    metric: 'string_match_all',
    maxNewTokens: VT_WORDING.maxNewTokens,
    make: (request) => makeVariableTracking('vt', request),
  },
  {
    name: 'cwe',
    summary: 'the ten most common words of a numbered list',
    needs: ['words'],
    metric: 'string_match_all',
    maxNewTokens: CWE_WORDING.maxNewTokens,
    make: (request) => makeCommonWords('cwe', request),
  },
  {
    name: 'fwe',
    summary: 'the three most frequent coded words',
    needs: [],
    metric: 'string_match_all',
    maxNewTokens: FWE_WORDING.maxNewTokens,
    make: (request) => makeFrequentWords('fwe', request),
  },
  {
    name: 'qa_1',
    summary: 'SQuAD questions among many paragraphs',
    needs: ['squad'],
    metric: 'string_match_part',
    maxNewTokens: QA_WORDING.maxNewTokens,
    make: async (request) => makeQuestionAnswering('qa_1', request.sources.squad(), request),
  },
  {
    name: 'qa_2',
    summary: 'HotpotQA questions, which take two documents of many',
    needs: ['hotpot'],
    metric: 'string_match_part',
    maxNewTokens: QA_WORDING.maxNewTokens,
    make: async (request) => makeQuestionAnswering('qa_2', request.sources.hotpot(), request),
  },
  {
    name: 'needle',
    summary: 'a needle at each of several depths of prose',
    needs: ['words', 'haystack'],
    metric: 'string_match_all',
    maxNewTokens: niahWording('numbers', 1).maxNewTokens,
    make: (request) => makeNeedleGrid('needle', request),
  },
  {
    name: 'midprompt',
    summary: 'questions inside the text, scored where their answers stand',
    needs: ['words', 'haystack'],
    metric: null,
    maxNewTokens: 1,
    make: (request) => makeMidprompt('midprompt', request),
  },
  {
    name: 'ppl',
    summary: 'perplexity of real text, by position',
    needs: ['texts'],
    metric: null,
    maxNewTokens: 1,
    make: (request) => makePerplexity('ppl', request),
  },
];

/** RULER's 13, in its order. */
export const RULER_TASKS: readonly string[] = EVAL_TASKS.slice(0, 13).map(({ name }) => name);

/** @throws ServingError BAD_REQUEST with the names there are */
export function findTask(name: string): TaskDefinition {
  const task = EVAL_TASKS.find((known) => known.name === name);
  if (task !== undefined) return task;
  const names = EVAL_TASKS.map((known) => known.name).join(', ');
  throw new ServingError('BAD_REQUEST', `unknown task ${name}: there are ${names}`);
}

/**
 * Makes one document. Its prompt and answer have `lengthTokens` tokens at most, and with one more
 * unit of its text (a word, line or document) they would have more.
 *
 * @throws ServingError BAD_REQUEST on an unknown task, a number out of range, a length without room
 *   for the task, or a file that is missing or wrong
 */
export async function makeDocument(name: string, request: TaskRequest): Promise<EvalDocument> {
  const task = findTask(name);
  requireWhole('length', request.lengthTokens, 1);
  requireWhole('index', request.index, 0);
  requireWhole('template tokens', request.templateTokens ?? 0, 0);
  requireWhole('questions per document', request.questionsPerDocument ?? 1, 1);
  requireWhole('depths', request.depths ?? 1, 1);
  return task.make(request);
}

function niahTask(name: string, kind: NiahParameters): TaskDefinition {
  const hidden = kind.haystack === 'needle' ? 'needles' : kind.haystack;
  return {
    name,
    summary: `${String(kind.queries * kind.valuesPerKey)} of ${String(kind.keys * kind.valuesPerKey)} needles (${kind.valueKind}) in ${hidden}`,
    needs: kind.haystack === 'essay' ? ['words', 'haystack'] : ['words'],
    metric: 'string_match_all',
    maxNewTokens: niahWording(kind.valueKind, kind.queries * kind.valuesPerKey).maxNewTokens,
    make: (request) => makeNiah(name, kind, request),
  };
}

function requireWhole(what: string, value: number, least: number): void {
  if (Number.isSafeInteger(value) && value >= least) return;
  throw new ServingError(
    'BAD_REQUEST',
    `${what} must be a whole number from ${String(least)}, not ${String(value)}`,
  );
}
