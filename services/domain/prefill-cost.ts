import { type HeadPatternName, TILE_TOKENS } from './head-pattern.js';
import type { TokenRange } from './token-range.js';

/** What a finished prompt chunk cost. Adopted chunks (prefix, restart) are not work and not listed. */
export interface ChunkWork extends TokenRange {
  /** Wall time inside the engine. */
  readonly engineMicros: number;
  /** The part of it that attention took; the rest does not depend on the position. */
  readonly attentionMicros: number;
  /** From the job's arrival on the queue to its end: other sessions' turns included. */
  readonly wallMicros: number;
}

/** The chunk that runs now. */
export interface RunningChunk extends TokenRange {
  /** Share of its work done, [0, 1]. */
  readonly share: number;
  readonly elapsedMicros: number;
}

export interface RemainingPrefill {
  readonly finished: readonly ChunkWork[];
  /** Null between chunks. */
  readonly running: RunningChunk | null;
  /** First position whose chunk is neither finished nor running. */
  readonly nextToken: number;
  /** Prompt length. */
  readonly totalTokens: number;
  /** Null: dense. */
  readonly sparse: SparseLaw | null;
}

/** What bounds sparse attention in the layers that run here. */
export interface SparseLaw {
  readonly denseBelowTokens: number;
  /**
   * How many heads have a limit of so many key tiles a block of queries. Not their mean: a head of few
   * tiles is at its limit long before one of many, which costs as much as a dense one till then.
   */
  readonly headsByTiles: ReadonlyMap<number, number>;
  /** What choosing the keys costs, of dense attention's products: mean of ESTIMATE_SHARE over heads. */
  readonly estimateShare: number;
}

/** Two passes of scores, without values, for 64 queries of a chunk; 8,192 tokens stand for all. */
const LAST_QUERIES = 64 / 8_192;

/** The estimate's share of dense attention, which has two products for each query and key. */
export const ESTIMATE_SHARE: Readonly<Record<HeadPatternName, number>> = {
  dense: 0,
  'a-shape': 0,
  'vertical-slash': LAST_QUERIES,
  // One product for the means of 64 queries and 64 keys.
  'block-sparse': 1 / (2 * 64 * 64),
  flex: LAST_QUERIES,
  // Two products, with the least and the greatest, for every fourth query and 64 keys. The closer look
  // at the candidates, a few tiles for each block, does not grow with the prompt.
  'key-bounds': 1 / (4 * 64),
};

/** Below this share, elapsed time says nothing about a chunk yet. */
const MIN_SHARE = 0.05;

/**
 * What blocked attention does beside its pairs: whole tiles at the diagonal, and a start and an end
 * for each block of queries. As much work as this many keys a query (cpu backend, head_dim 64:
 * 130-290 in chunks of 2,048). It matters while few keys have been seen.
 */
export const DIAGONAL_KEYS = 192;

/** (query, key) pairs of causal attention for the queries of a chunk: sum of p + 1 over it. */
export function attentionPairs({ beginToken, endToken }: TokenRange): number {
  return (endToken * (endToken + 1) - beginToken * (beginToken + 1)) / 2;
}

/**
 * Milliseconds to the end of prefill, by the cost law of attention: a chunk costs
 * `linear * tokens + quadratic * (pairs + DIAGONAL_KEYS * tokens)`, where a query of a sparse chunk has
 * as many pairs as its head's tiles hold keys, on average over the heads. Both factors are ratios of sums
 * over this session's finished chunks, so a long chunk weighs more than a short one. The result is
 * stretched by what the finished chunks waited for other sessions.
 *
 * @returns null while nothing is known: no chunk finished, and the running one is not the last
 */
export function remainingPrefillMs(prefill: RemainingPrefill): number | null {
  const { finished, running, nextToken, totalTokens, sparse } = prefill;
  const attentionWork = (range: TokenRange): number => workOf(range, sparse);
  const ahead: TokenRange = { beginToken: Math.min(nextToken, totalTokens), endToken: totalTokens };
  if (finished.length === 0) {
    const onlyThisIsLeft = running !== null && ahead.beginToken === ahead.endToken;
    if (!onlyThisIsLeft || running.share < MIN_SHARE) return null;
    return ((1 - running.share) * running.elapsedMicros) / running.share / 1000;
  }
  const sum = (of: (work: ChunkWork) => number): number =>
    finished.reduce((total, work) => total + of(work), 0);
  const engineMicros = sum((work) => work.engineMicros);
  const linear =
    sum((work) => Math.max(0, work.engineMicros - work.attentionMicros)) /
    sum((work) => work.endToken - work.beginToken);
  const quadratic = sum((work) => work.attentionMicros) / sum(attentionWork);
  const cost = (range: TokenRange): number =>
    linear * (range.endToken - range.beginToken) + quadratic * attentionWork(range);
  const stretch = engineMicros > 0 ? Math.max(1, sum((work) => work.wallMicros) / engineMicros) : 1;
  const runningMicros = running === null ? 0 : (1 - running.share) * cost(running);
  return ((runningMicros + cost(ahead)) * stretch) / 1000;
}

/** In (query, key) pairs. */
function workOf(range: TokenRange, sparse: SparseLaw | null): number {
  const { beginToken, endToken } = range;
  const denseEnd = Math.min(endToken, Math.max(beginToken, sparse?.denseBelowTokens ?? Infinity));
  const denseTokens = denseEnd - beginToken;
  const dense = attentionPairs({ beginToken, endToken: denseEnd }) + DIAGONAL_KEYS * denseTokens;
  if (sparse === null || denseEnd === endToken) return dense;
  const pairs = attentionPairs({ beginToken: denseEnd, endToken });
  const sparseTokens = endToken - denseEnd;
  let attended = 0;
  let heads = 0;
  for (const [tiles, count] of sparse.headsByTiles) {
    attended += count * Math.min(pairs, sparseTokens * (tiles * TILE_TOKENS + DIAGONAL_KEYS));
    heads += count;
  }
  return dense + attended / heads + sparse.estimateShare * pairs;
}
