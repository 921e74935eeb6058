import { checkPerplexityRoom } from '../tasks/perplexity.js';
import { findTask, makeDocument } from '../tasks/task-list.js';
import { TaskSources, type TaskFiles } from '../tasks/task-sources.js';
import type { TaskDefinition } from '../tasks/task-types.js';
import type { EvalSubject } from './eval-subject.js';
import { sourceFingerprints } from './fingerprint-sources.js';
import type { DocumentSource } from './run-documents.js';

/** What is generated. */
export interface TaskChoice {
  /** Subcommand of `longshadow eval`. */
  readonly benchmark: string;
  readonly tasks: readonly string[];
  /** Tokens. */
  readonly lengths: readonly number[];
  /** Of each task and length. */
  readonly documents: number;
  readonly seed: number;
  readonly questionsPerDocument?: number;
  readonly depths?: number;
  readonly files: TaskFiles;
}

/**
 * Documents that are generated: shorter ones first, and in turn from each task, so that the tables of
 * a run that is stopped are even.
 *
 * @throws ServingError BAD_REQUEST for an unknown task, or a file that is missing or wrong
 */
export async function taskSubject(choice: TaskChoice): Promise<EvalSubject> {
  const { benchmark, tasks, documents, seed, questionsPerDocument, depths, files } = choice;
  const lengths = [...choice.lengths].sort((a, b) => a - b);
  const definitions = tasks.map(findTask);
  const sources = new TaskSources(files);
  const needs = [...new Set(definitions.flatMap((task) => task.needs))];
  sources.check(needs);
  const options: Record<string, string | number> = await sourceFingerprints(needs, sources, files);
  if (questionsPerDocument !== undefined) options['questionsPerDocument'] = questionsPerDocument;
  if (depths !== undefined) options['depths'] = depths;
  const sample = { ...(depths === undefined ? {} : { depths }) };
  const each = { ...(questionsPerDocument === undefined ? {} : { questionsPerDocument }) };
  return {
    ...{ benchmark, tasks, lengths, documents, seed, options },
    documentSources: async (halves) => {
      const frameTokens = await halves.frameTokens(true);
      const request = { ...sample, ...each, seed, counter: halves.countTokens, sources };
      // A turn makes a token also where none is wanted.
      const around = (task: TaskDefinition): number => frameTokens + (task.metric === null ? 1 : 0);
      for (const task of definitions.filter(({ name }) => name === 'ppl')) {
        for (const lengthTokens of lengths) {
          const any = { ...request, lengthTokens, index: 0, templateTokens: around(task) };
          await checkPerplexityRoom(task.name, any, documents);
        }
      }
      return cells(lengths, documents, definitions, (task, lengthTokens, index) => ({
        id: `${task.name}/${String(lengthTokens)}/${String(index)}`,
        make: async () =>
          makeDocument(task.name, {
            ...{ ...request, lengthTokens, index },
            templateTokens: around(task),
          }),
      }));
    },
  };
}

function cells(
  lengths: readonly number[],
  documents: number,
  tasks: readonly TaskDefinition[],
  source: (task: TaskDefinition, lengthTokens: number, index: number) => DocumentSource,
): DocumentSource[] {
  const indices = Array.from({ length: documents }, (_, index) => index);
  return lengths.flatMap((length) =>
    indices.flatMap((index) => tasks.map((task) => source(task, length, index))),
  );
}
