import { createHash } from 'node:crypto';
import type { BenchmarkTask } from './benchmark-types.js';
import { fillPrompt } from './fill-prompt.js';
import type { TaskFile } from './find-task-files.js';
import { type LinePlace, readSamples } from './read-samples.js';

/** A question less the context that it is about. */
export interface GroupedQuestion {
  readonly lineNumber: number;
  /** What follows the context in the prompt. */
  readonly after: string;
  readonly references: readonly string[];
  readonly classes: readonly string[];
}

/** Samples with the same text before their questions. */
export interface SampleGroup {
  /** A line that holds the context. */
  readonly place: LinePlace;
  readonly digest: string;
  readonly questions: GroupedQuestion[];
}

/**
 * Reads a task's samples and puts those of one context together, in order of appearance: a book with
 * eight questions is one document, prefilled once. Contexts are not kept.
 *
 * @throws ServingError BAD_REQUEST naming file, line and field of what is wrong
 */
export async function groupSamples(file: TaskFile, mostSamples: number): Promise<SampleGroup[]> {
  const groups = new Map<string, SampleGroup>();
  let count = 0;
  if (mostSamples > 0) {
    for await (const { place, sample } of readSamples(file)) {
      const { before, after } = fillPrompt(file.task.template, sample);
      const digest = documentDigest(before + sample.context);
      const group = groups.get(digest) ?? { place, digest, questions: [] };
      groups.set(digest, group);
      const { references, classes } = sample;
      group.questions.push({ lineNumber: place.number, after, references, classes });
      count += 1;
      if (count === mostSamples) break;
    }
  }
  return [...groups.values()];
}

/** The document's text that a group's line gives. */
export function documentText(
  task: BenchmarkTask,
  sample: Parameters<typeof fillPrompt>[1],
): string {
  return fillPrompt(task.template, sample).before + sample.context;
}

export function documentDigest(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}
