import type { SparsePolicy } from '../../../native/ts/index.js';
import { HEAD_PATTERNS, TILE_TOKENS } from '../../domain/head-pattern.js';
import { ESTIMATE_SHARE, type SparseLaw } from '../../domain/prefill-cost.js';
import { BUDGET_FIELDS } from '../../engine-host/native-sparse-policy.js';

const A_SHAPE = HEAD_PATTERNS.indexOf('a-shape');

/**
 * What bounds a session's sparse attention here, for the time that is left: the tiles that each head
 * has, by the pattern file or the request, and what its pattern's estimate costs.
 * @returns null for dense prefill
 */
export function sparseLaw(policy: SparsePolicy | null): SparseLaw | null {
  if (policy === null) return null;
  const { budgets, denseBelowTokens } = policy;
  const headsByTiles = new Map<number, number>();
  let shares = 0;
  for (let at = 0; at < budgets.length; at += BUDGET_FIELDS) {
    const budget = budgets.subarray(at, at + BUDGET_FIELDS);
    const tiles = mostTiles(budget);
    headsByTiles.set(tiles, (headsByTiles.get(tiles) ?? 0) + 1);
    shares += ESTIMATE_SHARE[HEAD_PATTERNS[budget[0] ?? 0] ?? 'dense'];
  }
  const heads = budgets.length / BUDGET_FIELDS;
  return { denseBelowTokens, headsByTiles, estimateShare: shares / heads };
}

/** A window ends where its lines end; other patterns fill their tiles by score. */
function mostTiles([pattern = 0, columns = 0, distances = 0, tiles = 0]: Float64Array): number {
  if (pattern !== A_SHAPE) return tiles;
  // A block's nearest keys begin anywhere in a tile and end in the block's own.
  const window = Math.ceil(columns / TILE_TOKENS) + Math.ceil(distances / TILE_TOKENS) + 1;
  return Math.min(tiles, window);
}
