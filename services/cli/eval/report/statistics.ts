import { NORMAL_QUANTILE, tQuantile } from './t-quantile.js';

/** A value with its 95 % interval. */
export interface Interval {
  readonly mean: number;
  readonly low: number;
  readonly high: number;
}

export interface Estimate extends Interval {
  readonly count: number;
}

/**
 * The mean of scores in [0, 1] and its 95 % interval: Wilson's, for as many right or wrong answers as
 * would vary like these (Wilson's interval at an effective sample size, as surveys with a design
 * effect use it: Kott and Carr 1997; Franco, Little, Louis and Slud 2019).
 *
 * Scores of 0 and 1 get Wilson's interval itself: 100 right answers of 100 give 96.3 to 100 %. Graded
 * ones (F1, ROUGE) vary less than 0/1 scores of the same mean, which no score in [0, 1] exceeds, and
 * get a narrower one: that of the spread that was seen, with Student's quantile, plus as much doubt as
 * Wilson's own z²/4. So equal scores leave a width (three of 0.75: 33 to 95 %; a hundred: 73 to 77 %),
 * and a score that turns from 1 to 0.999 changes next to nothing.
 *
 * Answers count as independent, those of one document too. Where a document's answers hang together,
 * the interval is too narrow; a paired difference suffers less, since both sides share the document.
 *
 * @throws RangeError without scores
 */
export function estimateScore(scores: readonly number[]): Estimate {
  const count = scores.length;
  const { mean, low, high } = wilson(sum(scores), count, count / spreadShare(scores));
  return { mean, low: Math.max(0, low), high: Math.min(1, high), count };
}

/** The scores' variance over that of 0/1 scores with their mean; 1 for 0/1 scores, never 0. */
function spreadShare(scores: readonly number[]): number {
  const count = scores.length;
  if (count < 2) return 1;
  const mean = sum(scores) / count;
  const squares = sum(scores.map((score) => (score - mean) ** 2));
  const fewScores = (tQuantile(count - 1) / NORMAL_QUANTILE) ** 2 * (count / (count - 1));
  const doubt = NORMAL_QUANTILE ** 2 / 4;
  return Math.min(1, (fewScores * squares + doubt) / (count * mean * (1 - mean) + doubt));
}

/**
 * Wilson's score interval for `right` of `count`.
 * @param effective the number of answers that the interval is as wide as
 * @throws RangeError for a count of 0
 */
export function wilson(right: number, count: number, effective = count): Interval {
  if (count === 0) throw new RangeError('a share of nothing has no interval');
  const mean = right / count;
  const z2 = NORMAL_QUANTILE ** 2;
  const centre = (effective * mean + z2 / 2) / (effective + z2);
  const spread = effective * mean * (1 - mean) + z2 / 4;
  const half = (NORMAL_QUANTILE * Math.sqrt(spread)) / (effective + z2);
  // At the ends the formula gives the mean itself, but for rounding.
  return { mean, low: Math.min(mean, centre - half), high: Math.max(mean, centre + half) };
}

/**
 * Sum over sum, such as nats over tokens, with the interval of a ratio estimate (linearised, Student's
 * t): targets of many tokens weigh more.
 */
export function estimateRatio(
  parts: readonly { readonly value: number; readonly weight: number }[],
): Interval {
  const weight = sum(parts.map((part) => part.weight));
  if (parts.length === 0 || weight === 0) throw new RangeError('nothing has no ratio');
  const mean = sum(parts.map((part) => part.value)) / weight;
  const count = parts.length;
  if (count === 1) return { mean, low: -Infinity, high: Infinity };
  const residuals = parts.map((part) => part.value - mean * part.weight);
  const half = (tQuantile(count - 1) * Math.sqrt(count * variance(residuals, 0))) / weight;
  return { mean, low: mean - half, high: mean + half };
}

/**
 * The mean of independent estimates with its interval, each side from the distances of theirs
 * (Donner and Zou's recovery of variances): Wilson's stay asymmetric.
 */
export function averageIntervals(intervals: readonly Interval[]): Interval {
  const count = intervals.length;
  if (count === 0) throw new RangeError('nothing has no mean');
  const mean = sum(intervals.map((one) => one.mean)) / count;
  const below = Math.sqrt(sum(intervals.map((one) => (one.mean - one.low) ** 2))) / count;
  const above = Math.sqrt(sum(intervals.map((one) => (one.high - one.mean) ** 2))) / count;
  return { mean, low: mean - below, high: mean + above };
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length / 2;
  const below = sorted[Math.ceil(middle) - 1] ?? NaN;
  const above = sorted[Math.floor(middle)] ?? NaN;
  return (below + above) / 2;
}

export function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

/** Of a sample, about `mean`. */
function variance(values: readonly number[], mean: number): number {
  return sum(values.map((value) => (value - mean) ** 2)) / (values.length - 1);
}
