import { NORMAL_QUANTILE, tQuantile } from './t-quantile.js';

/** A value with its 95 % interval. */
export interface Interval {
  readonly mean: number;
  readonly low: number;
  readonly high: number;
}

export interface Estimate extends Interval {
  readonly count: number;
  readonly method: 'wilson' | 't';
}

/**
 * The mean of scores and its 95 % interval. Scores that are all 0 or 1 get Wilson's, which stays
 * honest near 0 and 1, where most of our scores are: 100 right answers of 100 give 96.3 to 100 %.
 * Graded scores (F1, ROUGE) get Student's t on the mean, kept within [0, 1]; from one or from equal
 * ones it says nothing: all of [0, 1], or no width.
 *
 * Answers count as independent, those of one document too. Where a document's answers hang together,
 * the interval is too narrow; a paired difference suffers less, since both sides share the document.
 *
 * @throws RangeError without scores
 */
export function estimateScore(scores: readonly number[]): Estimate {
  const count = scores.length;
  if (scores.every((score) => score === 0 || score === 1)) {
    return { ...wilson(sum(scores), count), count, method: 'wilson' };
  }
  const { mean, low, high } = estimateMean(scores);
  return { mean, low: Math.max(0, low), high: Math.min(1, high), count, method: 't' };
}

/** Wilson's score interval for `right` of `count`. @throws RangeError for a count of 0 */
export function wilson(right: number, count: number): Interval {
  if (count === 0) throw new RangeError('a share of nothing has no interval');
  const mean = right / count;
  const z2 = NORMAL_QUANTILE ** 2;
  const centre = (right + z2 / 2) / (count + z2);
  const spread = count * mean * (1 - mean) + z2 / 4;
  const half = (NORMAL_QUANTILE * Math.sqrt(spread)) / (count + z2);
  // At the ends the formula gives the mean itself, but for rounding.
  return { mean, low: Math.min(mean, centre - half), high: Math.max(mean, centre + half) };
}

/** The mean with Student's t interval; from one value, an endless one. */
export function estimateMean(values: readonly number[]): Interval {
  const count = values.length;
  if (count === 0) throw new RangeError('nothing has no mean');
  const mean = sum(values) / count;
  if (count === 1) return { mean, low: -Infinity, high: Infinity };
  const half = tQuantile(count - 1) * Math.sqrt(variance(values, mean) / count);
  return { mean, low: mean - half, high: mean + half };
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
