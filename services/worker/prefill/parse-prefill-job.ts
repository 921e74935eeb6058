import { z } from 'zod';
import {
  PREFILL_JOB_SCHEMA_VERSION,
  type PrefillJob,
  prefillJobId,
} from '../../domain/prefill-job.js';
import { ServingError } from '../../domain/serving-error.js';
import { SESSION_ID_PATTERN } from '../../domain/session-record.js';

const position = z.number().int().nonnegative();
const hex32 = z.string().regex(SESSION_ID_PATTERN);
const tokenRange = z.strictObject({ beginToken: position, endToken: position });

const prefillJob = z.strictObject({
  schemaVersion: z.literal(PREFILL_JOB_SCHEMA_VERSION),
  kind: z.enum(['prefill', 'seal']),
  sessionId: hex32,
  epoch: z.number().int().positive().max(0xffffffff),
  stage: z.number().int().nonnegative(),
  modelFingerprint: hex32,
  fingerprint: hex32,
  beginToken: position,
  endToken: position,
  nextTokenId: z.number().int().nonnegative().max(0xffffffff).nullable(),
  promptLogprobs: z.array(tokenRange),
  cachedTokens: position,
  totalTokens: position.nullable(),
  deadlineUnixMs: z.number().nonnegative().nullable(),
  traceparent: z.string().nullable(),
});

/**
 * Checks a job's payload: bytes from Redis, so anyone's.
 *
 * @param jobId under which the queue has it; tells session, epoch, first token and stage once more
 * @throws ServingError JOB_CORRUPT naming every field that is wrong
 */
export function parsePrefillJob(jobId: string, data: unknown): PrefillJob {
  const parsed = prefillJob.safeParse(data);
  if (!parsed.success) {
    const problems = parsed.error.issues.map(
      (issue) => `${issue.path.map(String).join('.') || 'job'}: ${issue.message}`,
    );
    throw corrupt(problems.join('; '));
  }
  const job = parsed.data;
  if (prefillJobId(job) !== jobId) throw corrupt(`its fields are those of ${prefillJobId(job)}`);
  const problem = rangeProblem(job);
  if (problem !== null) throw corrupt(problem);
  return job;
}

function corrupt(problem: string): ServingError {
  return new ServingError('JOB_CORRUPT', `the prefill job's payload is damaged: ${problem}`);
}

function rangeProblem(job: PrefillJob): string | null {
  const { kind, beginToken, endToken, totalTokens, promptLogprobs } = job;
  if (totalTokens !== null && endToken > totalTokens) return 'endToken is past totalTokens';
  if (kind === 'seal') {
    return beginToken === endToken && endToken === totalTokens
      ? null
      : 'a seal has beginToken = endToken = totalTokens';
  }
  if (beginToken >= endToken) return 'beginToken must be less than endToken';
  if (beginToken % 512 !== 0) return 'beginToken must be a multiple of 512';
  let previousEnd = beginToken + 1;
  for (const range of promptLogprobs) {
    if (range.beginToken >= range.endToken) return 'a promptLogprobs range is empty';
    if (range.beginToken < previousEnd || range.endToken > endToken + 1) {
      return 'promptLogprobs must be ascending, disjoint and inside (beginToken, endToken]';
    }
    previousEnd = range.endToken;
  }
  return null;
}
