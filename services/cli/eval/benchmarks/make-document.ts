import { ServingError } from '../../../domain/serving-error.js';
import type { EvalDocument, EvalQuestion } from '../eval-types.js';
import type { BenchmarkOptions } from './benchmark-types.js';
import type { TaskFile } from './find-task-files.js';
import {
  documentDigest,
  documentText,
  type GroupedQuestion,
  type SampleGroup,
} from './group-samples.js';
import { readSampleAt } from './read-samples.js';
import { truncateMiddle } from './truncate-middle.js';

/**
 * Reads a group's context again, cuts it to length with its longest question, and puts the questions
 * behind it.
 *
 * @throws ServingError BAD_REQUEST if the length has no room, or the file is no longer what it was
 */
export async function makeBenchmarkDocument(
  id: string,
  file: TaskFile,
  group: SampleGroup,
  options: BenchmarkOptions,
): Promise<EvalDocument> {
  const { task } = file;
  const text = documentText(task, await readSampleAt(file, group.place));
  if (documentDigest(text) !== group.digest) {
    throw new ServingError(
      'BAD_REQUEST',
      `${file.path} changed while it was read; begin again, and leave the file alone until the end`,
    );
  }
  const longest = await longestQuestion(group.questions, options);
  const templateTokens = (await options.templateTokens?.(task.chat)) ?? 0;
  const budget = options.lengthTokens - task.maxNewTokens - templateTokens;
  const cut = await truncateMiddle(text, longest.after, budget, options.countTokens);
  if (cut === null) {
    throw new ServingError(
      'BAD_REQUEST',
      `${task.name} has no room in ${options.lengthTokens} tokens, of which answers may take ${task.maxNewTokens}: ask for more, or leave the task out`,
    );
  }
  return {
    id,
    task: task.name,
    lengthTokens: options.lengthTokens,
    promptText: cut.document,
    chat: task.chat,
    questions: group.questions.map((question) => toQuestion(file, question, cut.cutCharacters)),
    logprobTargets: [],
  };
}

async function longestQuestion(
  questions: readonly GroupedQuestion[],
  { countTokens }: BenchmarkOptions,
): Promise<{ readonly after: string }> {
  let longest = { after: '', tokens: 0 };
  for (const { after } of questions) {
    const tokens = await countTokens(after);
    if (tokens > longest.tokens) longest = { after, tokens };
  }
  return longest;
}

function toQuestion(
  { task }: TaskFile,
  { lineNumber, after, references, classes }: GroupedQuestion,
  cutCharacters: number,
): EvalQuestion {
  return {
    id: `line${lineNumber}`,
    questionText: after,
    answerPrefix: '',
    references,
    metric: task.metric,
    ...(classes.length === 0 ? {} : { classes }),
    maxNewTokens: task.maxNewTokens,
    facts: { line: lineNumber, cutCharacters },
  };
}
