import { readFile } from 'node:fs/promises';
import type { SampleResult } from '../eval-types.js';
import { writeReport } from '../report/write-report.js';
import { controlsOf, isControl } from './policies.js';
import type { RunFolder } from './run-folder.js';
import type { PlanThresholds } from './run-plan.js';

/** A run's report: its Markdown, and all files that were written, the Markdown's first. */
export interface WrittenReport {
  readonly markdown: string;
  readonly files: readonly string[];
}

/**
 * Writes the report of a run into its folder, tasks and policies in the order of the plan.
 *
 * @param command repeats the run; stands over the tables
 * @param finished documents of a run that is not complete, such as `3 of 10`; null: it is
 */
export async function reportRun(
  folder: RunFolder,
  command: string,
  finished: string | null = null,
): Promise<WrittenReport> {
  const { benchmark, model, modelFingerprint, seed, policies, tasks, thresholds } = folder.plan;
  const unfinished = finished === null ? {} : { 'not complete, documents finished': finished };
  const files = await writeReport([...folder.samples].sort(inOrder), folder.path, {
    title: `${benchmark} on ${model}`,
    command,
    ...{ policies, tasks },
    controls: controlsOf(policies),
    controlPolicies: policies.filter(isControl),
    facts: {
      model: `${model} (${modelFingerprint})`,
      seed: String(seed),
      ...thresholdFacts(thresholds),
      ...unfinished,
    },
  });
  const [first = ''] = files;
  return { markdown: await readFile(first, 'utf8'), files };
}

/** What each sparse policy was resolved to. */
function thresholdFacts(thresholds: PlanThresholds = {}): Record<string, string> {
  const facts = Object.entries(thresholds).map(([policy, resolved]): [string, string] => {
    const { tilesPerBlock, tilesOverrideFile, denseBelowTokens, patternsSha256 } = resolved;
    const tiles =
      tilesOverrideFile || patternsSha256 === '' ? '' : "the pattern file's tiles, else ";
    const patterns = patternsSha256 === '' ? '' : `, patterns ${patternsSha256.slice(0, 12)}`;
    return [
      policy,
      `${tiles}${String(tilesPerBlock)} tiles a block, dense below ${String(denseBelowTokens)} tokens${patterns}`,
    ];
  });
  return Object.fromEntries(facts);
}

/** Samples come as they are answered; a report does not depend on that. */
function inOrder(a: SampleResult, b: SampleResult): number {
  return ORDER.compare(placeOf(a), placeOf(b));
}

const ORDER = new Intl.Collator('en', { numeric: true });

function placeOf({ documentId, policy, questionId }: SampleResult): string {
  return `${documentId} ${policy} ${questionId}`;
}
