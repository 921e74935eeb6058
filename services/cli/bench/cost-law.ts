import { attentionPairs, DIAGONAL_KEYS } from '../../domain/prefill-cost.js';
import type { TokenRange } from '../../domain/token-range.js';
import { sum } from '../eval/report/statistics.js';
import type { ChunkCost } from './chunk-cost.js';

/** Exact attention grows with (query, key) pairs, all else with tokens. */
export interface CostLaw {
  /** What does not depend on the position. */
  readonly secondsPerToken: number;
  /** Of attention; a token counts for DIAGONAL_KEYS pairs besides its own. */
  readonly secondsPerPair: number;
  /** Where the chunks lie that it is fitted to. */
  readonly fittedTo: TokenRange;
  readonly chunks: number;
  /** Root mean square of (law - measured) / measured over these chunks' seconds; null for one chunk. */
  readonly residual: number | null;
}

/**
 * The cost law of the chunks in the later half of the positions that were measured: earlier ones are
 * ruled by what does not grow. Both factors are ratios of sums, so that long chunks weigh more.
 *
 * @param costs of dense chunks, measured, in order of positions, one at least
 */
export function fitCostLaw(costs: readonly ChunkCost[]): CostLaw {
  const end = costs.at(-1)?.endToken ?? 0;
  const late = costs.filter(({ beginToken }) => beginToken >= end / 2);
  const known = late.length === 0 ? costs : late;
  const factors = {
    secondsPerPair:
      sum(known.map(({ attentionSeconds }) => attentionSeconds)) / sum(known.map(attentionWork)),
    secondsPerToken:
      sum(known.map(({ seconds, attentionSeconds }) => seconds - attentionSeconds)) /
      sum(known.map(tokensOf)),
  };
  const misses = known.map((cost) => lawCost(factors, cost).seconds / cost.seconds - 1);
  return {
    ...factors,
    fittedTo: { beginToken: known[0]?.beginToken ?? 0, endToken: end },
    chunks: known.length,
    residual:
      misses.length < 2 ? null : Math.sqrt(sum(misses.map((miss) => miss ** 2)) / misses.length),
  };
}

/** What a dense chunk that did not run would have cost. */
export function lawCost(
  { secondsPerToken, secondsPerPair }: Pick<CostLaw, 'secondsPerToken' | 'secondsPerPair'>,
  chunk: TokenRange,
): ChunkCost {
  const attentionSeconds = secondsPerPair * attentionWork(chunk);
  return {
    beginToken: chunk.beginToken,
    endToken: chunk.endToken,
    seconds: attentionSeconds + secondsPerToken * tokensOf(chunk),
    attentionSeconds,
    estimateSeconds: 0,
    indexSeconds: 0,
    isMeasured: false,
  };
}

function tokensOf({ beginToken, endToken }: TokenRange): number {
  return endToken - beginToken;
}

function attentionWork(range: TokenRange): number {
  return attentionPairs(range) + DIAGONAL_KEYS * tokensOf(range);
}
