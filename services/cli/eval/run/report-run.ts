import { readFile } from 'node:fs/promises';
import type { SampleResult } from '../eval-types.js';
import { writeReport } from '../report/write-report.js';
import type { RunFolder } from './run-folder.js';

/** A run's report: its Markdown, and all files that were written, the Markdown's first. */
export interface WrittenReport {
  readonly markdown: string;
  readonly files: readonly string[];
}

/** @param command repeats the run; stands over the tables */
export async function reportRun(folder: RunFolder, command: string): Promise<WrittenReport> {
  const { benchmark, model, modelFingerprint, seed } = folder.plan;
  const files = await writeReport([...folder.samples].sort(inOrder), folder.path, {
    title: `${benchmark} on ${model}`,
    command,
    facts: { model: `${model} (${modelFingerprint})`, seed: String(seed) },
  });
  const [first = ''] = files;
  return { markdown: await readFile(first, 'utf8'), files };
}

/** Samples come as they are answered; a report does not depend on that. */
function inOrder(a: SampleResult, b: SampleResult): number {
  return ORDER.compare(placeOf(a), placeOf(b));
}

const ORDER = new Intl.Collator('en', { numeric: true });

function placeOf({ documentId, policy, questionId }: SampleResult): string {
  return `${documentId} ${policy} ${questionId}`;
}
