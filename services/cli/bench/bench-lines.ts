import { attentionPairs, DIAGONAL_KEYS } from '../../domain/prefill-cost.js';
import { planPrefillChunks, type CutRule } from '../../domain/plan-prefill-chunks.js';
import type { TokenRange } from '../../domain/token-range.js';
import type { MeasuredChunk, MeasuredPolicy } from './interleaved-prefill.js';

/** What one policy cost, as `longshadow bench prefill --json` prints it. */
export interface BenchLine {
  readonly policy: string;
  readonly tokens: number;
  /** Time inside the engine, summed over chunks. */
  readonly seconds: number;
  /** The part of `seconds` that was not measured but follows from the cost law; 0: all measured. */
  readonly extrapolated_seconds: number;
  readonly attention_seconds: number;
  /** Of the attention: scores and selection of keys, and their index. */
  readonly estimate_seconds: number;
  readonly index_seconds: number;
  /** Of rows that attended sparsely: share of dense attention's key tiles; 1 where none did. */
  readonly tile_density: number;
  /** Of blocks that were computed densely too: mean and largest relative error. Null: none were. */
  readonly guard_error_mean: number | null;
  readonly guard_error_max: number | null;
  /** Dense seconds over this policy's, the dense policy of the same run; null without one. */
  readonly speedup: number | null;
}

/** @param chunks of all policies, in order of their positions */
export function benchLines(
  policies: readonly MeasuredPolicy[],
  chunks: readonly MeasuredChunk[],
  tokens: number,
  cutRule: CutRule,
): BenchLine[] {
  const lines = policies.map((policy) =>
    policyLine(
      policy,
      chunks.filter((chunk) => chunk.policy === policy.name),
      tokens,
      cutRule,
    ),
  );
  const denseAt = policies.findIndex(({ sparse }) => sparse === null);
  const dense = denseAt < 0 ? undefined : lines[denseAt];
  return lines.map((line) => ({
    ...line,
    speedup: dense === undefined ? null : dense.seconds / line.seconds,
  }));
}

function policyLine(
  { name, untilToken }: MeasuredPolicy,
  chunks: readonly MeasuredChunk[],
  tokens: number,
  cutRule: CutRule,
): BenchLine {
  const seconds = (of: (chunk: MeasuredChunk) => number): number =>
    chunks.reduce((sum, chunk) => sum + of(chunk), 0) / 1e6;
  const missing = planPrefillChunks(tokens, cutRule).filter(
    ({ beginToken }) => beginToken >= untilToken,
  );
  const left = extrapolate(chunks, missing);
  const total = (of: (chunk: MeasuredChunk) => number): number =>
    chunks.reduce((sum, chunk) => sum + of(chunk), 0);
  const guardBlocks = total(({ result }) => result.sparse.guardBlocks);
  return {
    policy: name,
    tokens,
    seconds: seconds(({ result }) => result.engineMicros) + left.seconds,
    extrapolated_seconds: left.seconds,
    attention_seconds: seconds(({ result }) => result.attentionMicros) + left.attentionSeconds,
    estimate_seconds: seconds(({ result }) => result.sparse.estimateMicros),
    index_seconds: seconds(({ result }) => result.sparse.indexMicros),
    tile_density: tileDensity(chunks),
    guard_error_mean:
      guardBlocks === 0 ? null : total(({ result }) => result.sparse.guardErrorSum) / guardBlocks,
    guard_error_max:
      guardBlocks === 0
        ? null
        : Math.max(...chunks.map(({ result }) => result.sparse.guardErrorMax)),
    speedup: null,
  };
}

/** Attended over causal keys of what ran sparse; 1 where nothing did. */
function tileDensity(chunks: readonly MeasuredChunk[]): number {
  const sum = (of: (chunk: MeasuredChunk) => Float64Array): number =>
    chunks.reduce((total, chunk) => total + of(chunk).reduce((a, b) => a + b, 0), 0);
  const causal = sum(({ result }) => result.sparse.causalKeys);
  return causal === 0 ? 1 : sum(({ result }) => result.sparse.attendedKeys) / causal;
}

/** Chunks that count for the cost law: earlier ones are ruled by what does not grow. */
const LAW_FROM_TOKEN = 65_536;

/**
 * Time of chunks that did not run, by the cost law of exact attention fitted to those that did:
 * attention grows with (query, key) pairs, all else with tokens.
 */
function extrapolate(
  chunks: readonly MeasuredChunk[],
  missing: readonly TokenRange[],
): { seconds: number; attentionSeconds: number } {
  if (missing.length === 0) return { seconds: 0, attentionSeconds: 0 };
  const late = chunks.filter(({ beginToken }) => beginToken >= LAW_FROM_TOKEN);
  const known = late.length === 0 ? chunks : late;
  const sum = <T>(list: readonly T[], of: (item: T) => number): number =>
    list.reduce((total, item) => total + of(item), 0);
  const attention = sum(known, ({ result }) => result.attentionMicros) / sum(known, attentionWork);
  const other =
    sum(known, ({ result }) => result.engineMicros - result.attentionMicros) /
    sum(known, chunkTokens);
  const attentionSeconds = (attention * sum(missing, attentionWork)) / 1e6;
  return {
    seconds: attentionSeconds + (other * sum(missing, chunkTokens)) / 1e6,
    attentionSeconds,
  };
}

function chunkTokens({ beginToken, endToken }: TokenRange): number {
  return endToken - beginToken;
}

function attentionWork(range: TokenRange): number {
  return attentionPairs(range) + DIAGONAL_KEYS * chunkTokens(range);
}
