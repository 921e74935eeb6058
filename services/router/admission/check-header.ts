import type { GenerationOptions } from '../../domain/sampling.js';
import { type ErrorCode, ServingError } from '../../domain/serving-error.js';
import { type Priority, SESSION_ID_PATTERN } from '../../domain/session-record.js';
import type { TokenRange } from '../../domain/token-range.js';
import type { GenerationHeader } from './generation-header.js';
import type { ServedModel } from './served-model.js';

const MAX_TEMPERATURE = 100;
const MAX_STOP_TEXTS = 16;
const MAX_STOP_BYTES = 256;
const MAX_TENANT_BYTES = 128;
const MAX_LOGPROB_RANGES = 4_096;
const DEFAULT_RESUME_GRACE_MS = 60_000;
/** How long a session may run on without a client. */
const MAX_RESUME_GRACE_MS = 3_600_000;
/** Longest deadline: 7 days. */
const MAX_DEADLINE_MS = 604_800_000;
const MAX_UINT64 = 2n ** 64n - 1n;

/** Server-side defaults and caps. */
export interface HeaderLimits {
  readonly defaultMaxPromptTokens: number;
  readonly defaultMaxNewTokens: number;
  readonly maxKeepSessionMs: number;
}

/** A header with every value checked and every default filled in. */
export interface CheckedHeader {
  readonly generation: GenerationOptions;
  readonly maxPromptTokens: number;
  readonly tenant: string;
  readonly priority: Priority;
  /** Earlier of the header's and the call's; null: none. */
  readonly deadlineUnixMs: number | null;
  readonly onDisconnect: 'cancel' | 'keep';
  readonly resumeGraceMs: number;
  readonly keepSessionMs: number;
  readonly keepExactKeys: boolean;
}

/** What a check may use besides the header. */
export interface HeaderContext {
  readonly model: ServedModel;
  readonly limits: HeaderLimits;
  readonly nowUnixMs: number;
  readonly callDeadlineUnixMs: number | null;
  /** Decimal digits of an unsigned 64-bit number, used where the header has no seed. */
  readonly randomSeed: string;
}

/**
 * Checks all that can be checked without the prompt.
 * @throws ServingError INVALID_SAMPLING, INVALID_DEADLINE, BAD_REQUEST, TOKEN_ID_OUT_OF_RANGE or
 *   PROMPT_TOO_LONG, naming the field
 */
export function checkHeader(header: GenerationHeader, context: HeaderContext): CheckedHeader {
  const { model, limits, nowUnixMs } = context;
  checkSampling(header);
  checkTexts(header);
  const maxNewTokens = newTokens(header, context);
  checkForced(header, model, maxNewTokens);
  return {
    generation: {
      sampling: {
        temperature: header.temperature,
        topK: header.topK,
        topP: header.topP ?? 1,
        seed: header.seed ?? context.randomSeed,
      },
      stopping: { maxNewTokens, stopTexts: header.stopTexts, ignoreEos: header.ignoreEos },
      forcedTokenIds: header.forcedTokenIds,
      promptLogprobs: orderedRanges(header.promptLogprobs, model.maxPositions),
    },
    maxPromptTokens: promptTokens(header, model, maxNewTokens, limits),
    tenant: header.tenant,
    priority: header.priority,
    deadlineUnixMs: deadline(header, nowUnixMs, context.callDeadlineUnixMs),
    onDisconnect: header.onDisconnect,
    resumeGraceMs: Math.min(header.resumeGraceMs ?? DEFAULT_RESUME_GRACE_MS, MAX_RESUME_GRACE_MS),
    keepSessionMs: Math.min(header.keepSessionMs, limits.maxKeepSessionMs),
    keepExactKeys: header.keepExactKeys,
  };
}

function checkSampling({ temperature, topK, topP, seed }: GenerationHeader): void {
  if (!(temperature >= 0 && temperature <= MAX_TEMPERATURE)) {
    throw refused(
      'INVALID_SAMPLING',
      'sampling.temperature',
      `from 0 to ${String(MAX_TEMPERATURE)}`,
      temperature,
    );
  }
  if (!(Number.isInteger(topK) && topK >= 0)) {
    throw refused('INVALID_SAMPLING', 'sampling.top_k', '0 (off) or more', topK);
  }
  if (topP !== null && !(topP > 0 && topP <= 1)) {
    throw refused('INVALID_SAMPLING', 'sampling.top_p', 'above 0 and at most 1', topP);
  }
  if (seed !== null && !(/^\d{1,20}$/.test(seed) && BigInt(seed) <= MAX_UINT64)) {
    throw refused('INVALID_SAMPLING', 'sampling.seed', 'an unsigned 64-bit number', seed);
  }
}

function checkTexts({ stopTexts, tenant, continueSessionId }: GenerationHeader): void {
  if (stopTexts.length > MAX_STOP_TEXTS) {
    throw refused(
      'BAD_REQUEST',
      'stop',
      `at most ${String(MAX_STOP_TEXTS)} texts`,
      stopTexts.length,
    );
  }
  stopTexts.forEach((text, index) => {
    const bytes = Buffer.byteLength(text);
    if (bytes === 0 || bytes > MAX_STOP_BYTES) {
      throw refused(
        'BAD_REQUEST',
        `stop[${String(index)}]`,
        `from 1 to ${String(MAX_STOP_BYTES)} bytes`,
        bytes,
      );
    }
  });
  if (Buffer.byteLength(tenant) > MAX_TENANT_BYTES) {
    throw refused(
      'BAD_REQUEST',
      'tenant',
      `at most ${String(MAX_TENANT_BYTES)} bytes`,
      Buffer.byteLength(tenant),
    );
  }
  if (continueSessionId !== null && !SESSION_ID_PATTERN.test(continueSessionId)) {
    throw refused('BAD_REQUEST', 'continue_session_id', '32 hex digits', continueSessionId);
  }
}

function newTokens({ maxNewTokens }: GenerationHeader, { model, limits }: HeaderContext): number {
  if (maxNewTokens === 0) {
    return Math.max(1, Math.min(limits.defaultMaxNewTokens, Math.floor(model.maxPositions / 2)));
  }
  if (maxNewTokens < model.maxPositions) return maxNewTokens;
  const limit = `below the model's ${String(model.maxPositions)} positions`;
  throw refused('BAD_REQUEST', 'max_new_tokens', limit, maxNewTokens);
}

function checkForced(
  { forcedTokenIds }: GenerationHeader,
  model: ServedModel,
  maxNewTokens: number,
): void {
  if (forcedTokenIds.length > maxNewTokens) {
    throw refused(
      'BAD_REQUEST',
      'forced_tokens',
      `at most max_new_tokens (${String(maxNewTokens)}) ids`,
      forcedTokenIds.length,
    );
  }
  const wrong = forcedTokenIds.findIndex((id) => id >= model.vocabSize);
  if (wrong >= 0) {
    throw refused(
      'TOKEN_ID_OUT_OF_RANGE',
      `forced_tokens[${String(wrong)}]`,
      `below the vocabulary size ${String(model.vocabSize)}`,
      forcedTokenIds[wrong] ?? 0,
    );
  }
}

function promptTokens(
  { maxPromptTokens }: GenerationHeader,
  { maxPositions }: ServedModel,
  maxNewTokens: number,
  { defaultMaxPromptTokens }: HeaderLimits,
): number {
  const most = maxPositions - maxNewTokens;
  if (maxPromptTokens === 0) return Math.min(defaultMaxPromptTokens, most);
  if (maxPromptTokens <= most) return maxPromptTokens;
  const limit = `at most ${String(most)} (the model's ${String(maxPositions)} positions less max_new_tokens)`;
  throw refused('PROMPT_TOO_LONG', 'max_prompt_tokens', limit, maxPromptTokens);
}

function deadline(
  { deadlineMs }: GenerationHeader,
  nowUnixMs: number,
  callDeadlineUnixMs: number | null,
): number | null {
  if (!(Number.isInteger(deadlineMs) && deadlineMs >= 0 && deadlineMs <= MAX_DEADLINE_MS)) {
    const wanted = `from 0 (none) to ${String(MAX_DEADLINE_MS)} milliseconds (7 days)`;
    throw refused('INVALID_DEADLINE', 'deadline_ms', wanted, deadlineMs);
  }
  // A call's deadline may lie a thousand years ahead; that is none.
  const lastUnixMs = nowUnixMs + MAX_DEADLINE_MS;
  if (deadlineMs === 0) {
    return callDeadlineUnixMs === null ? null : Math.min(callDeadlineUnixMs, lastUnixMs);
  }
  return Math.min(nowUnixMs + deadlineMs, callDeadlineUnixMs ?? Infinity);
}

/** Sorted and joined, so that each position is asked for once. */
function orderedRanges(ranges: readonly TokenRange[], maxPositions: number): TokenRange[] {
  if (ranges.length > MAX_LOGPROB_RANGES) {
    throw refused(
      'BAD_REQUEST',
      'prompt_logprobs',
      `at most ${String(MAX_LOGPROB_RANGES)} ranges`,
      ranges.length,
    );
  }
  ranges.forEach(({ beginToken, endToken }, index) => {
    if (beginToken < endToken && endToken <= maxPositions) return;
    const wanted = `begin_token < end_token <= ${String(maxPositions)}`;
    throw refused(
      'BAD_REQUEST',
      `prompt_logprobs[${String(index)}]`,
      wanted,
      `[${String(beginToken)}, ${String(endToken)})`,
    );
  });
  const joined: TokenRange[] = [];
  for (const range of [...ranges].sort((a, b) => a.beginToken - b.beginToken)) {
    const last = joined.at(-1);
    if (last === undefined || range.beginToken > last.endToken) joined.push(range);
    else joined[joined.length - 1] = { ...last, endToken: Math.max(last.endToken, range.endToken) };
  }
  return joined;
}

function refused(
  code: ErrorCode,
  field: string,
  wanted: string,
  got: string | number,
): ServingError {
  return new ServingError(code, `${field} must be ${wanted}, got ${String(got)}`, {
    fieldViolations: [{ field, description: `must be ${wanted}` }],
  });
}
