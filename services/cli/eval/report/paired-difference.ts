import { estimateRatio, type Interval, sum } from './statistics.js';
import { NORMAL_QUANTILE } from './t-quantile.js';

/** "Within 1 point" means at most so many of a hundred lost, whatever was gained. */
const WITHIN_ONE_POINT_LOSS = 0.02;
/** With fewer answers one lost would decide, or none would prove anything. */
const WITHIN_ONE_POINT_ANSWERS = 100;

/** The same questions under two policies: score less dense score. */
export interface ScoreDifference extends Interval {
  readonly count: number;
  /** Answers that dense had right and the policy has not; of graded ones the part that fell. */
  readonly lost: number;
  /** The other way round; does not make up for `lost`. */
  readonly gained: number;
  /** No more than 2 of 100 are lost; null while answers are missing. */
  readonly withinOnePoint: boolean | null;
  /** How many more answers it takes to say `withinOnePoint`. */
  readonly missingAnswers: number;
}

export interface ScorePair {
  readonly score: number;
  readonly dense: number;
}

/**
 * The mean difference over pairs with its 95 % interval, within [-1, 1]: Bonett and Price's (2012),
 * which is Wald's after one more pair that fell from 1 to 0 and one more that rose from 0 to 1. Those
 * two keep a width where no answer changed: 100 equal pairs leave 2.7 points either way. They bound
 * what a graded difference can be too, so graded scores get the same formula: a difference that turns
 * from 0 to 0.01 changes next to nothing, and small ones are never more certain than equal ones.
 *
 * @throws RangeError without pairs
 */
export function pairedDifference(pairs: readonly ScorePair[]): ScoreDifference {
  if (pairs.length === 0) throw new RangeError('no pairs have no difference');
  const differences = pairs.map(({ score, dense }) => score - dense);
  const total = sum(differences);
  const count = pairs.length;
  const centre = total / (count + 2);
  const squares = sum(differences.map((difference) => difference ** 2)) + 2;
  const half = NORMAL_QUANTILE * Math.sqrt((squares / (count + 2) - centre ** 2) / (count + 2));
  const lost = sum(differences.map((difference) => Math.max(0, -difference)));
  const missingAnswers = Math.max(0, WITHIN_ONE_POINT_ANSWERS - count);
  // Sums of hundredths are not exact in binary.
  const isWithin = lost <= WITHIN_ONE_POINT_LOSS * count + 1e-9;
  return {
    mean: total / count,
    low: Math.max(-1, centre - half),
    high: Math.min(1, centre + half),
    ...{ count, lost, missingAnswers },
    gained: sum(differences.map((difference) => Math.max(0, difference))),
    withinOnePoint: missingAnswers > 0 ? null : isWithin,
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
