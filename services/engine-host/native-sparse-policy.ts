import type { SparsePolicy } from '../../native/ts/index.js';
import {
  aShapeOf,
  HEAD_PATTERNS,
  type HeadPatternName,
  patternOf,
} from '../domain/head-pattern.js';
import type { PrefillPolicy, ResolvedPolicy } from '../domain/policy.js';
import { ServingError } from '../domain/serving-error.js';
import type { ResolvedSparsePolicy } from '../domain/sparse-policy.js';
import type { LoadedPatterns } from '../platform/patterns/load-patterns.js';

/** What a stage knows of its model's heads. */
export interface StagePatterns {
  readonly patterns: LoadedPatterns;
  readonly layerBegin: number;
  readonly layerEnd: number;
  readonly queryHeads: number;
}

/** Of a head in the engine's budgets: pattern, columns, distances, tiles. */
export const BUDGET_FIELDS = 4;
type Budget = readonly [HeadPatternName, columns: number, distances: number, tiles: number];
type BudgetOf = (layer: number, head: number) => Budget;

/**
 * A session's sparse policy as the engine takes it, for the layers of this stage.
 *
 * @returns null for dense prefill
 * @throws ServingError WORKER_LOST if the session was admitted for other patterns than this worker's:
 *   only a plan on another worker helps
 */
export function nativeSparsePolicy(
  { prefillPolicy, sparse }: ResolvedPolicy,
  stage: StagePatterns,
): SparsePolicy | null {
  if (prefillPolicy === 'dense' || sparse === null) return null;
  const { denseBelowTokens, gamma, tau, minTiles, guardInterval } = sparse;
  const budgets = stageBudgets(stage, budgetsOf(prefillPolicy, sparse, stage.patterns));
  return { denseBelowTokens, budgets, gamma, tau, minTiles, guardInterval };
}

function budgetsOf(
  prefillPolicy: Exclude<PrefillPolicy, 'dense'>,
  sparse: ResolvedSparsePolicy,
  patterns: LoadedPatterns,
): BudgetOf {
  const { tilesPerBlock } = sparse;
  switch (prefillPolicy) {
    case 'minference':
      return patternBudgets(sparse, patterns);
    case 'flexprefill':
      return () => ['flex', 0, 0, tilesPerBlock];
    case 'a-shape': {
      const { pattern, columns, distances } = aShapeOf(tilesPerBlock);
      return () => [pattern, columns, distances, tilesPerBlock];
    }
  }
}

function patternBudgets(
  { patternsSha256, tilesPerBlock, tilesOverrideFile }: ResolvedSparsePolicy,
  { patterns, sha256, path }: LoadedPatterns,
): BudgetOf {
  if (patternsSha256 !== sha256) throw otherPatterns(path);
  return (layer, head) => {
    const { pattern, columns, distances, tiles } = patternOf(patterns, layer, head);
    const most = tilesOverrideFile ? tilesPerBlock : (tiles ?? tilesPerBlock);
    return [pattern, columns, distances, most];
  };
}

function stageBudgets(
  { layerBegin, layerEnd, queryHeads }: StagePatterns,
  budgetOf: BudgetOf,
): Float64Array {
  const budgets = new Float64Array((layerEnd - layerBegin) * queryHeads * BUDGET_FIELDS);
  let at = 0;
  for (let layer = layerBegin; layer < layerEnd; layer++) {
    for (let head = 0; head < queryHeads; head++) {
      const [pattern, ...limits] = budgetOf(layer, head);
      budgets.set([HEAD_PATTERNS.indexOf(pattern), ...limits], at);
      at += BUDGET_FIELDS;
    }
  }
  return budgets;
}

/** No byte is wrong: the worker has come back with another file than its heartbeat told the router. */
function otherPatterns(path: string | null): ServingError {
  const here = path ?? 'none, so every head has the default pattern';
  return new ServingError(
    'WORKER_LOST',
    `the pattern files of router and worker differ (the worker's: ${here}); ` +
      'start both with the same one',
  );
}
