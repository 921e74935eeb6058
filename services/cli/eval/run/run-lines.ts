import { z } from 'zod';
import { ServingError } from '../../../domain/serving-error.js';
import type { SampleResult } from '../eval-types.js';
import { readJsonLines } from './json-lines.js';

/** A line of finished.jsonl: a document whose samples under one policy are all written. */
export interface FinishedDocument {
  readonly documentId: string;
  readonly policy: string;
  readonly samples: number;
}

const count = z.int().nonnegative();

const SAMPLE: z.ZodType<SampleResult> = z.looseObject({
  documentId: z.string(),
  questionId: z.string(),
  task: z.string(),
  lengthTokens: count,
  policy: z.string(),
  promptTokens: count,
  prediction: z.string().nullable(),
  references: z.array(z.string()),
  score: z.number().min(0).max(1),
  logprobSum: z.number().nullable(),
  targetTokens: count.nullable(),
  worstRank: count.nullable(),
  facts: z.record(z.string(), z.union([z.string(), z.number()])),
  timeToFirstTokenMs: z.number().nullable(),
  tileDensity: z.number().min(0).max(1).nullable().default(null),
});

const FINISHED: z.ZodType<FinishedDocument> = z.looseObject({
  documentId: z.string(),
  policy: z.string(),
  samples: count,
});

/**
 * The samples of results.jsonl; what a crash left of a last line is cut off.
 * @throws ServingError BAD_REQUEST naming file, line and field of what is none
 */
export async function readSampleLines(path: string): Promise<SampleResult[]> {
  return readLines(path, SAMPLE, 'sample');
}

/** As readSampleLines, of finished.jsonl. */
export async function readFinishedLines(path: string): Promise<FinishedDocument[]> {
  return readLines(path, FINISHED, 'finished document');
}

async function readLines<T>(path: string, schema: z.ZodType<T>, what: string): Promise<T[]> {
  const lines = await readJsonLines(path);
  return lines.map(({ value }, at) => {
    const parsed = schema.safeParse(value);
    if (parsed.success) return parsed.data;
    const [issue] = parsed.error.issues;
    throw new ServingError(
      'BAD_REQUEST',
      `${path}:${String(at + 1)} is not a ${what} of a run (${issue?.path.join('.') ?? ''}: ${issue?.message ?? ''}): take the line out, or give another --out`,
    );
  });
}
