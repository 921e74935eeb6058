import { z } from 'zod';
import type { FleetMember } from '../../domain/fleet.js';
import {
  CACHE_POLICY_NAMES,
  PREFILL_POLICY_NAMES,
  type ResolvedPolicy,
} from '../../domain/policy.js';
import type { GenerationOptions } from '../../domain/sampling.js';
import { ERROR_CODES, ServingError, type ErrorDetails } from '../../domain/serving-error.js';
import type { SessionEvent, TurnReport } from '../../domain/session-event.js';
import {
  SESSION_ID_PATTERN,
  SESSION_SCHEMA_VERSION,
  type SegmentOrigin,
  type SegmentRecord,
  type SessionRecord,
  type TurnRecord,
} from '../../domain/session-record.js';
import type { DriverRequest, PrefixDonor } from '../../domain/session-store.js';
import type { TokenRange } from '../../domain/token-range.js';
import { sparsePolicySchema, sparseWorkSchema } from '../sparse-schemas.js';

/*
 * What Redis holds may have been written by another version, or by hand: it is checked when it is
 * read. Fields that this version does not know are dropped.
 */

const count = z.number().int().nonnegative();
const positive = z.number().int().positive();
const sessionId = z.string().regex(SESSION_ID_PATTERN);
const name = z.string().min(1);

const rangeFields = { beginToken: count, endToken: count };
const inOrder = ({ beginToken, endToken }: TokenRange): boolean => beginToken <= endToken;
const outOfOrder = 'ends before it begins';
const range = z.object(rangeFields).refine(inOrder, outOfOrder);

const policy = z.object({
  prefillPolicy: z.enum(PREFILL_POLICY_NAMES),
  cachePolicy: z.enum(CACHE_POLICY_NAMES),
  dtype: z.enum(['bf16', 'fp32']),
  cutRule: z.enum(['cpu', 'gpu']),
  sparse: sparsePolicySchema.nullable(),
}) satisfies z.ZodType<ResolvedPolicy>;

const details = z.object({
  fieldViolations: z
    .array(z.object({ field: z.string(), description: z.string() }))
    .exactOptional(),
  retryAfterMs: z.number().exactOptional(),
  quota: z.object({ subject: z.string(), description: z.string() }).exactOptional(),
}) satisfies z.ZodType<ErrorDetails>;

const report = z.object({
  policy,
  promptTokens: count,
  cachedTokens: count,
  completionTokens: count,
  timeToFirstTokenMs: z.number(),
  prefillMs: z.number(),
  decodeMs: z.number(),
  segmentBytes: count,
  privateBytes: count,
  workerIds: z.array(z.string()),
  decodeId: z.string(),
  promptReran: z.boolean(),
  sparseWork: sparseWorkSchema.nullable(),
}) satisfies z.ZodType<TurnReport>;

/** JSON has no infinities: JSON.stringify writes null for the log-probability of an impossible token. */
const logprob = z
  .number()
  .nullable()
  .transform((value) => value ?? Number.NEGATIVE_INFINITY);

const event = z.discriminatedUnion('type', [
  z.object({
    type: z.literal('accepted'),
    model: z.string(),
    modelFingerprint: z.string(),
    policy,
    reservedBytes: count,
    reservedTokens: count,
  }),
  z.object({ type: z.literal('queued'), workerId: z.string(), jobsAhead: count }),
  z.object({
    type: z.literal('progress'),
    processedTokens: count,
    totalTokens: count.nullable(),
    cachedTokens: count,
    etaMs: z.number().nonnegative().nullable(),
    promptLogprobs: z.array(z.object({ position: count, tokenId: count, logprob, rank: count })),
  }),
  z.object({
    type: z.literal('interrupted'),
    code: z.enum(ERROR_CODES),
    message: z.string(),
  }),
  z.object({
    type: z.literal('token'),
    index: count,
    tokenId: count,
    text: z.string(),
    logprob,
    rank: count,
  }),
  z.object({
    type: z.literal('finished'),
    finishReason: z.enum(['stop', 'stop_text', 'length']),
    text: z.string(),
    report,
    keptUntilUnixMs: count.nullable(),
  }),
  z.object({
    type: z.literal('error'),
    code: z.enum(ERROR_CODES),
    message: z.string(),
    details,
  }),
]) satisfies z.ZodType<SessionEvent>;

const generation = z.object({
  sampling: z.object({
    temperature: z.number(),
    topK: z.number().int(),
    topP: z.number(),
    seed: z.string(),
  }),
  stopping: z.object({
    maxNewTokens: count,
    stopTexts: z.array(z.string()),
    ignoreEos: z.boolean(),
  }),
  forcedTokenIds: z.array(count),
  promptLogprobs: z.array(range),
}) satisfies z.ZodType<GenerationOptions>;

const turn = z
  .object({
    number: count,
    afterSequence: count,
    beginToken: count,
    endToken: count.nullable(),
    cachedTokens: count,
    promptReran: z.boolean(),
    admittedUnixMs: count,
    prefilledUnixMs: count.nullable(),
    sparseWork: sparseWorkSchema.nullable(),
  })
  .refine(
    ({ beginToken, endToken }) => endToken === null || beginToken <= endToken,
    outOfOrder,
  ) satisfies z.ZodType<TurnRecord>;

const segment = z
  .object({ ...rangeFields, stage: count, bytes: count })
  .refine(inOrder, outOfOrder) satisfies z.ZodType<SegmentRecord>;

const origin = z
  .object({ ...rangeFields, fingerprint: name })
  .refine(inOrder, outOfOrder) satisfies z.ZodType<SegmentOrigin>;

const record = z.object({
  schemaVersion: z.literal(SESSION_SCHEMA_VERSION),
  sessionId,
  revision: positive,
  state: z.enum([
    'uploading',
    'prefilling',
    'sealing',
    'decoding',
    'kept',
    'finished',
    'failed',
    'cancelled',
  ]),
  epoch: positive,
  attempt: count,
  lane: z.array(name),
  decodeId: name.nullable(),
  turn,
  model: z.string(),
  modelFingerprint: z.string(),
  policy,
  fingerprint: z.string(),
  generation,
  receivedTokens: count,
  uploadClosed: z.boolean(),
  sealedTokens: count,
  historyTokens: count,
  answers: z.array(range),
  turnCuts: z.array(count),
  nextToken: count,
  segments: z.array(segment),
  origins: z.array(origin),
  dataLosses: count,
  maxPromptTokens: count,
  reservation: z.object({ storeId: name, bytes: count, tokens: count }).nullable(),
  tenant: z.string(),
  priority: z.enum(['low', 'normal', 'high']),
  traceparent: z.string().nullable(),
  deadlineUnixMs: z.number().nullable(),
  onDisconnect: z.enum(['cancel', 'keep']),
  resumeGraceMs: count,
  keepSessionMs: count,
  keepExactKeys: z.boolean(),
  keepUntilUnixMs: z.number().nullable(),
  createdUnixMs: count,
}) satisfies z.ZodType<SessionRecord>;

const member = z.object({
  memberId: z.string(),
  role: z.enum(['worker', 'decode']),
  address: z.string(),
  model: z.string(),
  modelFingerprint: z.string(),
  dtype: z.enum(['bf16', 'fp32']),
  device: z.string(),
  instructionSet: z.string(),
  stage: count,
  stages: count,
  layerBegin: count,
  layerEnd: count,
  vocabSize: count,
  maxPositions: count,
  eosTokenIds: z.array(count),
  kvBytesPerToken: count,
  patternsSha256: z.string().regex(/^(?:[0-9a-f]{64})?$/),
  storeId: z.string(),
  storeCapacityBytes: count,
  storeFreeBytes: count,
  activeSessions: count,
  maxSessions: count,
  privateCapacityBytes: count,
  draining: z.boolean(),
  startedUnixMs: count,
}) satisfies z.ZodType<FleetMember>;

const donor = z
  .object({ ...rangeFields, sessionId, epoch: positive, fingerprint: name })
  .refine(inOrder, outOfOrder) satisfies z.ZodType<PrefixDonor>;

const driverRequest = z.object({
  kind: z.enum(['yield', 'evict']),
  sessionId,
}) satisfies z.ZodType<DriverRequest>;

/** @throws ServingError DATA_LOSS */
export function readEvent(json: string): SessionEvent {
  return read(event, json, 'session event');
}

/** @throws ServingError DATA_LOSS */
export function readRecord(json: string): SessionRecord {
  return read(record, json, 'session record');
}

/** @throws ServingError DATA_LOSS */
export function readMember(json: string): FleetMember {
  return read(member, json, 'fleet member');
}

/** @throws ServingError DATA_LOSS */
export function readDonor(json: string): PrefixDonor {
  return read(donor, json, 'prefix donor');
}

/** @throws ServingError DATA_LOSS */
export function readDriverRequest(json: string): DriverRequest {
  return read(driverRequest, json, 'request to a driver');
}

function read<T>(schema: z.ZodType<T>, json: string, what: string): T {
  let parsed: unknown;
  try {
    parsed = JSON.parse(json);
  } catch (error) {
    throw new ServingError('DATA_LOSS', `${what} in Redis is not JSON`, {}, { cause: error });
  }
  const result = schema.safeParse(parsed);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  const where = issue === undefined ? '' : ` (${issue.path.join('.')}: ${issue.message})`;
  throw new ServingError('DATA_LOSS', `${what} in Redis has another form${where}`);
}
