import { estimateMean, estimateRatio, type Interval, sum } from './statistics.js';
import { NORMAL_QUANTILE } from './t-quantile.js';

/** "Within 1 point" means at most so many of a hundred lost. */
export const WITHIN_ONE_POINT_LOSS = 0.02;

/** The same questions under two policies: score less dense score. */
export interface ScoreDifference extends Interval {
  readonly count: number;
  /** Questions whose score fell, and rose, against dense. */
  readonly lost: number;
  readonly gained: number;
  /** The mean is no more than 2 of 100 below dense. */
  readonly withinOnePoint: boolean;
}

export interface ScorePair {
  readonly score: number;
  readonly dense: number;
}

/**
 * The mean difference over pairs with its 95 % interval: Bonett and Price's for scores of 0 and 1,
 * which keeps a width where no answer changed (100 equal pairs still leave 2.7 points either way);
 * Student's t on the differences for graded scores.
 *
 * @throws RangeError without pairs
 */
export function pairedDifference(pairs: readonly ScorePair[]): ScoreDifference {
  const differences = pairs.map(({ score, dense }) => score - dense);
  const lost = differences.filter((difference) => difference < 0).length;
  const gained = differences.filter((difference) => difference > 0).length;
  const isBinary = pairs.every(({ score, dense }) => isBit(score) && isBit(dense));
  const interval = estimateMean(differences);
  const bounds = isBinary ? bonettPrice(lost, gained, pairs.length) : interval;
  return {
    mean: interval.mean,
    low: Math.max(-1, bounds.low),
    high: Math.min(1, bounds.high),
    ...{ count: pairs.length, lost, gained },
    // Sums of hundredths are not exact in binary.
    withinOnePoint: -sum(differences) <= WITHIN_ONE_POINT_LOSS * pairs.length + 1e-9,
  };
}

/** The same targets under two policies: nats a token, less dense's; above 0 is worse. */
export function pairedSurprise(
  pairs: readonly { readonly nats: number; readonly denseNats: number; readonly tokens: number }[],
): Interval {
  return estimateRatio(
    pairs.map(({ nats, denseNats, tokens }) => ({ value: nats - denseNats, weight: tokens })),
  );
}

/** Wald's interval after one more pair that lost and one more that gained. */
function bonettPrice(lost: number, gained: number, count: number): Pick<Interval, 'low' | 'high'> {
  const lostShare = (lost + 1) / (count + 2);
  const gainedShare = (gained + 1) / (count + 2);
  const centre = gainedShare - lostShare;
  const half = NORMAL_QUANTILE * Math.sqrt((gainedShare + lostShare - centre ** 2) / (count + 2));
  return { low: centre - half, high: centre + half };
}

function isBit(score: number): boolean {
  return score === 0 || score === 1;
}
