import { ServingError } from '../../../domain/serving-error.js';
import type { EvalDocument, EvalQuestion } from '../eval-types.js';
import { SeededRandom } from '../../text/seeded-random.js';
import { type Fitted, fitUnits, type UnitText } from './fit-length.js';
import type { TaskRequest } from './task-types.js';

/** `task/length/index`: unique in a run, the same in every run. */
export function documentId(task: string, request: TaskRequest): string {
  return `${task}/${String(request.lengthTokens)}/${String(request.index)}`;
}

/** Random numbers of one document. @param purpose keeps draws apart whose number may change */
export function documentRandom(task: string, request: TaskRequest, purpose = ''): SeededRandom {
  return new SeededRandom(`${String(request.seed)}/${documentId(task, request)}${purpose}`);
}

/** Fits the text of a document, its longest question and answer into the wanted length. */
export async function fitDocument(
  task: string,
  request: TaskRequest,
  questions: readonly EvalQuestion[],
  text: UnitText,
): Promise<Fitted> {
  const rest = await questionTokens(request, questions);
  const budgetTokens = request.lengthTokens - (request.templateTokens ?? 0) - rest;
  const fitted = await fitUnits(text, budgetTokens, request.counter);
  if (fitted.tokens > budgetTokens) {
    const least = fitted.tokens + request.lengthTokens - budgetTokens;
    throw new ServingError(
      'BAD_REQUEST',
      `${task} has no room in ${String(request.lengthTokens)} tokens: ask for ${String(least)} or more, or for fewer questions a document`,
    );
  }
  return fitted;
}

/** A document that is one chat message. */
export function chatDocument(
  task: string,
  request: TaskRequest,
  promptText: string,
  questions: readonly EvalQuestion[],
): EvalDocument {
  return {
    id: documentId(task, request),
    task,
    lengthTokens: request.lengthTokens,
    promptText,
    chat: true,
    questions,
    logprobTargets: [],
  };
}

/** Puts texts into a template; each name stands in braces. */
export function fillTemplate(template: string, values: Readonly<Record<string, string>>): string {
  return template.replace(/\{(\w+)\}/g, (all, name: string) => values[name] ?? all);
}

/** The most that a question, its answer prefix and its answer take; at least one token is made. */
async function questionTokens(
  { counter }: TaskRequest,
  questions: readonly EvalQuestion[],
): Promise<number> {
  let most = 1;
  for (const { questionText, answerPrefix, maxNewTokens } of questions) {
    const tokens = (await counter(questionText)) + (await counter(answerPrefix)) + maxNewTokens;
    most = Math.max(most, tokens);
  }
  return most;
}
