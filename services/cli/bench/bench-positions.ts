import type { TokenRange } from '../../domain/token-range.js';
import type { MeasuredChunk } from './interleaved-prefill.js';
import { tileDensity } from './key-density.js';
import type { PolicyCosts } from './policy-costs.js';

/** What one chunk costs, as `positions` of `longshadow bench prefill --json` has it. */
export interface BenchPosition {
  readonly begin_token: number;
  readonly end_token: number;
  readonly seconds: number;
  /** Dense seconds over these; null without dense prefill, and for itself. */
  readonly speedup: number | null;
  /** The dense seconds follow from the cost law. */
  readonly speedup_is_extrapolated: boolean;
  /** Attention's share of the seconds, [0, 1]. */
  readonly attention_share: number;
  /** Of attention's time: scores and selection of keys. */
  readonly estimate_share: number;
  /** Of attention's time. */
  readonly index_share: number;
  readonly tile_density: number;
}

/** Doublings of the position that are shown. */
const MOST_DOUBLINGS = 6;

/**
 * Chunks that stand for the others: those that end at a doubling of the position, and the last one before
 * the tail, whose dense rows are many.
 */
export function shownChunks(plan: readonly TokenRange[]): TokenRange[] {
  const whole = plan.length > 1 ? plan.slice(0, -1) : plan;
  const last = whole.at(-1);
  return whole.filter(({ endToken }, at) => {
    const isDoubling = Number.isInteger(Math.log2(endToken));
    const isNear = endToken * 2 ** MOST_DOUBLINGS > (last?.endToken ?? 0);
    return at === whole.length - 1 || (isDoubling && isNear);
  });
}

/**
 * @param chunks of this policy
 * @param dense of the same run; null: there is none, or this is it
 */
export function benchPositions(
  { costs }: PolicyCosts,
  chunks: readonly MeasuredChunk[],
  dense: PolicyCosts | null,
  plan: readonly TokenRange[],
): BenchPosition[] {
  return shownChunks(plan).flatMap(({ beginToken, endToken }) => {
    const here = (place: TokenRange): boolean => place.beginToken === beginToken;
    const [cost, denseCost] = [costs.find(here), dense?.costs.find(here)];
    if (cost?.isMeasured !== true) return [];
    const attention = cost.attentionSeconds;
    return {
      begin_token: beginToken,
      end_token: endToken,
      seconds: cost.seconds,
      speedup: denseCost === undefined ? null : denseCost.seconds / cost.seconds,
      speedup_is_extrapolated: denseCost?.isMeasured === false,
      attention_share: attention / cost.seconds,
      estimate_share: cost.estimateSeconds / attention,
      index_share: cost.indexSeconds / attention,
      tile_density: tileDensity(chunks.filter(here)),
    };
  });
}
