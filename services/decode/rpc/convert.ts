import { z } from 'zod';
import type { AppendTurnRequest__Output } from '../../../proto/gen/longshadow/decode/v1/AppendTurnRequest.js';
import type { Generation__Output } from '../../../proto/gen/longshadow/decode/v1/Generation.js';
import type { StartSessionRequest__Output } from '../../../proto/gen/longshadow/decode/v1/StartSessionRequest.js';
import type { TurnContext__Output } from '../../../proto/gen/longshadow/decode/v1/TurnContext.js';
import { CACHE_POLICY_NAMES, PREFILL_POLICY_NAMES } from '../../domain/policy.js';
import type { GenerationOptions } from '../../domain/sampling.js';
import { ServingError } from '../../domain/serving-error.js';
import { SESSION_ID_PATTERN } from '../../domain/session-record.js';
import { sparsePolicySchema, sparseWorkSchema } from '../../platform/sparse-schemas.js';
import type { TurnContext } from '../loop/turn.js';
import type { AppendTurn, StartSession } from '../sessions/requests.js';

/** A uint64 of the wire that must fit a JavaScript integer: positions, bytes, times. */
const uint64 = z
  .string()
  .transform(Number)
  .pipe(z.number().int().nonnegative().max(Number.MAX_SAFE_INTEGER));
const id = z.string().regex(SESSION_ID_PATTERN, 'must be 32 lower-case hex digits');

const positionRange = z.object({ beginToken: uint64, endToken: uint64 });

const generation = z.object({
  temperature: z.number().min(0).max(100),
  topK: z.number().int().min(0),
  topP: z.number().gt(0).max(1),
  seed: z.string().regex(/^\d{1,20}$/),
  maxNewTokens: z.number().int().min(1),
  stop: z.array(z.string().min(1)),
  ignoreEos: z.boolean(),
  forcedTokens: z.array(z.number()),
  promptLogprobs: z.array(positionRange),
});

const sparsePolicy = z
  .object({
    denseBelowTokens: uint64,
    tilesPerBlock: z.number(),
    tilesOverrideFile: z.boolean(),
    patternsSha256: z.string(),
    gamma: z.number(),
    tau: z.number(),
    minTiles: z.number(),
    guardInterval: z.number(),
  })
  .pipe(sparsePolicySchema);

const sparseWork = z
  .object({
    sparseTokens: uint64,
    denseTokens: uint64,
    attendedKeys: z.array(uint64),
    causalKeys: z.array(uint64),
    layerAttendedKeys: z.array(uint64),
    layerCausalKeys: z.array(uint64),
    estimateMicros: uint64,
    indexMicros: uint64,
    attentionMicros: uint64,
    guardBlocks: uint64,
    guardErrorSum: z.number(),
    guardErrorMax: z.number(),
  })
  .pipe(sparseWorkSchema);

const context = z.object({
  admittedUnixMs: uint64,
  prefilledUnixMs: uint64,
  promptTokens: uint64,
  cachedTokens: uint64,
  workerIds: z.array(z.string()),
  segmentBytes: uint64,
  promptReran: z.boolean(),
  keepSessionMs: uint64,
  prefillPolicy: z.enum(PREFILL_POLICY_NAMES),
  cachePolicy: z.enum(CACHE_POLICY_NAMES),
  dtype: z.enum(['bf16', 'fp32']),
  cutRule: z.enum(['cpu', 'gpu']),
  deadlineUnixMs: uint64,
  firstTokenUnixMs: uint64,
  sparse: sparsePolicy.nullish().transform((given) => given ?? null),
  sparseWork: sparseWork.nullish().transform((given) => given ?? null),
});

const fence = {
  sessionId: id,
  epoch: z.number().int().min(1),
  attempt: z.number().int().min(1),
};
const startSession = z.object({
  ...fence,
  fingerprint: id,
  workerAddress: z.string().min(1),
  turn: z.number().int().min(0),
  answeredTokens: z.number().int().min(0),
  turnBeginToken: uint64,
  answers: z.array(positionRange),
});
const appendTurn = z.object({ ...fence, turn: z.number().int().min(1) });

/** @throws ServingError BAD_REQUEST or INVALID_SAMPLING naming what is wrong */
export function toStartSession(request: StartSessionRequest__Output): StartSession {
  const checked = check(startSession, request, 'BAD_REQUEST');
  const { answeredTokens, turnBeginToken, answers, ...rest } = checked;
  const tokenIds = Uint32Array.from(request.historyTokenIds);
  return {
    ...rest,
    history: { tokenIds, answeredTokens, turnBeginToken, answers },
    generation: toGeneration(request.generation),
    context: toContext(request.context),
  };
}

/** @throws ServingError BAD_REQUEST or INVALID_SAMPLING naming what is wrong */
export function toAppendTurn(request: AppendTurnRequest__Output): AppendTurn {
  return {
    ...check(appendTurn, request, 'BAD_REQUEST'),
    tokenIds: Uint32Array.from(request.tokenIds),
    generation: toGeneration(request.generation),
    context: toContext(request.context),
  };
}

/** @throws ServingError BAD_REQUEST */
export function toSessionId(request: { readonly sessionId: string }): string {
  return check(z.object({ sessionId: id }), request, 'BAD_REQUEST').sessionId;
}

function toGeneration(wire: Generation__Output | null): GenerationOptions {
  const checked = check(generation, wire, 'INVALID_SAMPLING');
  return {
    sampling: {
      temperature: checked.temperature,
      topK: checked.topK,
      topP: checked.topP,
      seed: checked.seed,
    },
    stopping: {
      maxNewTokens: checked.maxNewTokens,
      stopTexts: checked.stop,
      ignoreEos: checked.ignoreEos,
    },
    forcedTokenIds: checked.forcedTokens,
    promptLogprobs: checked.promptLogprobs,
  };
}

function toContext(wire: TurnContext__Output | null): TurnContext {
  const checked = check(context, wire, 'BAD_REQUEST');
  const { prefillPolicy, cachePolicy, dtype, cutRule, sparse, ...turn } = checked;
  const { deadlineUnixMs, firstTokenUnixMs, ...rest } = turn;
  return {
    ...rest,
    policy: { prefillPolicy, cachePolicy, dtype, cutRule, sparse },
    deadlineUnixMs: deadlineUnixMs === 0 ? null : deadlineUnixMs,
    firstTokenUnixMs: firstTokenUnixMs === 0 ? null : firstTokenUnixMs,
  };
}

function check<T>(
  schema: z.ZodType<T>,
  value: unknown,
  code: 'BAD_REQUEST' | 'INVALID_SAMPLING',
): T {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const fieldViolations = parsed.error.issues.map((issue) => ({
    field: issue.path.map(String).join('.'),
    description: issue.message,
  }));
  const problems = fieldViolations.map(({ field, description }) => `${field}: ${description}`);
  throw new ServingError(code, problems.join('; '), { fieldViolations });
}
