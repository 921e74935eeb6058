import type { Candidate } from './candidates.js';
import type { TrialSums } from './trial-sums.js';

/** A closer pair of patterns than this is told apart by chance. */
const NOISE = 0.02;
/** Patterns that find their keys by content: all but windows. */
const BY_CONTENT = ['vertical-slash', 'block-sparse', 'key-bounds'] as const;

/** What a search chose for one query head. */
export interface HeadChoice {
  readonly layer: number;
  readonly head: number;
  /** Place among the candidates. */
  readonly candidate: number;
  /** Mean relative error of a row, calibration prompts. */
  readonly error: number;
  /** The best two patterns that find keys by content do equally well: which was taken is chance. */
  readonly isClose: boolean;
}

/** Sizes of TrialSums' lists. */
export interface TrialShape {
  readonly layers: number;
  readonly queryHeads: number;
  readonly candidates: readonly Candidate[];
}

/** For each head the candidate with the smallest error, of equal ones the earlier; layer by layer. */
export function choosePatterns(sums: TrialSums, shape: TrialShape): HeadChoice[] {
  return Array.from({ length: shape.layers * shape.queryHeads }, (_, place) => {
    const errors = headErrors(sums, shape, place);
    const error = Math.min(...errors);
    return {
      layer: Math.floor(place / shape.queryHeads),
      head: place % shape.queryHeads,
      candidate: errors.indexOf(error),
      error,
      isClose: isClose(errors, shape.candidates),
    };
  });
}

/** Mean relative error of a row under each candidate. @param place layer x query heads + head */
export function headErrors(sums: TrialSums, shape: TrialShape, place: number): number[] {
  const count = shape.candidates.length;
  return sums.errors.slice(place * count, (place + 1) * count).map((sum) => sum / sums.rows);
}

/** Share of dense attention's keys that a head attends to under each candidate. */
export function headDensities(sums: TrialSums, shape: TrialShape, place: number): number[] {
  const count = shape.candidates.length;
  return sums.attendedKeys
    .slice(place * count, (place + 1) * count)
    .map((keys) => keys / sums.causalKeys);
}

/** A window that beats all that look at content is no chance. */
function isClose(errors: readonly number[], candidates: readonly Candidate[]): boolean {
  const [best = NaN, next = NaN] = BY_CONTENT.map((wanted) =>
    Math.min(...errors.filter((_, at) => candidates[at]?.pattern === wanted)),
  ).sort((a, b) => a - b);
  return Math.min(...errors) === best && next - best < NOISE * best;
}
