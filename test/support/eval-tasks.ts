import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Tokenizer } from 'tokenizers';
import type { EvalDocument, TokenCounter } from '../../services/cli/eval/eval-types.js';
import { makeDocument } from '../../services/cli/eval/tasks/task-list.js';
import { TaskSources } from '../../services/cli/eval/tasks/task-sources.js';
import type { TaskRequest } from '../../services/cli/eval/tasks/task-types.js';
import { NEEDLE_MODEL } from './cluster.js';

const SHARED = fileURLToPath(new URL('../../../shared/data/', import.meta.url));

/** A path below ../shared/data, or null, with a line that says so, where it is absent. */
export function sharedData(name: string): string | null {
  const path = join(SHARED, name);
  if (existsSync(path)) return path;
  console.log(`skipped: ../shared/data/${name} is absent`);
  return null;
}

const json = JSON.parse(readFileSync(join(NEEDLE_MODEL, 'tokenizer.json'), 'utf8')) as object;
const tokenizer = Tokenizer.fromString(JSON.stringify({ ...json, added_tokens: [] }));

/** Tokens of the embedded model. */
export const countTokens: TokenCounter = async (text) =>
  (await tokenizer.encode(text, null, { addSpecialTokens: false })).getIds().length;

/** Shared by the tests of a file, since words and book take time to read. */
export const packagedSources = new TaskSources({});

/** Document 0 of 4,096 tokens and seed 42, unless told. */
export function makeTask(task: string, request: Partial<TaskRequest> = {}): Promise<EvalDocument> {
  return makeDocument(task, {
    lengthTokens: 4_096,
    index: 0,
    seed: 42,
    counter: countTokens,
    sources: packagedSources,
    ...request,
  });
}

/** Tokens of the prompt with the longest question and its answer. */
export async function wholeTokens({ promptText, questions }: EvalDocument): Promise<number> {
  let most = 0;
  for (const { questionText, answerPrefix, maxNewTokens } of questions) {
    const asked = (await countTokens(questionText)) + (await countTokens(answerPrefix));
    most = Math.max(most, asked + maxNewTokens);
  }
  return (await countTokens(promptText)) + most;
}

/** How often a piece stands in a text. */
export function occurrences(text: string, piece: string): number {
  return text.split(piece).length - 1;
}
