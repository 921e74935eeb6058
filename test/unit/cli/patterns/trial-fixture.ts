import { searchCandidates } from '../../../../services/cli/patterns/candidates.js';
import type { TrialShape } from '../../../../services/cli/patterns/choose-patterns.js';
import type { TrialSums } from '../../../../services/cli/patterns/trial-sums.js';

export const TILES = 64;
export const CANDIDATES = searchCandidates(TILES);
/** Places of the candidates that tests speak of. */
export const [WINDOW, LINES, OTHER_LINES, BLOCKS, STANDARD] = [0, 2, 3, 7, 8] as const;

/** Two layers of two heads. */
export const SHAPE: TrialShape = { layers: 2, queryHeads: 2, candidates: CANDIDATES };

/** Ten rows; @param errors of a row, by head and candidate, 1 where nothing is said */
export function sumsWith(
  errors: readonly Readonly<Record<number, number>>[],
  rows = 10,
): TrialSums {
  const all = Array.from({ length: 4 }, (_, head) =>
    CANDIDATES.map((__, candidate) => rows * (errors[head]?.[candidate] ?? 1)),
  ).flat();
  return {
    rows,
    causalKeys: 1_000,
    errors: all,
    attendedKeys: all.map((_, at) => 100 * (1 + (at % CANDIDATES.length))),
  };
}
