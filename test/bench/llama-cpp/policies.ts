import type { EngineInfo, SparsePolicy } from '../../../native/ts/index.js';

export const POLICIES = ['dense', 'minference'] as const;
export type Policy = (typeof POLICIES)[number];

/** MInference's published line counts for all heads alike, and our budget of key tiles. */
const VERTICAL_SLASH = { pattern: 2, columns: 1_000, distances: 6_096, tiles: 64 } as const;
const DENSE_BELOW_TOKENS = 8_192;

/** How a session of this policy attends; null for dense. */
export function sparsePolicy(policy: Policy, model: EngineInfo): SparsePolicy | null {
  if (policy === 'dense') return null;
  const { pattern, columns, distances, tiles } = VERTICAL_SLASH;
  const head = [pattern, columns, distances, tiles];
  const heads = (model.layerEnd - model.layerBegin) * model.queryHeads;
  return {
    denseBelowTokens: DENSE_BELOW_TOKENS,
    budgets: Float64Array.from(Array.from({ length: heads }, () => head).flat()),
    // FlexPrefill's, which no head here uses.
    gamma: 0.95,
    tau: 0.1,
    minTiles: 1,
    guardInterval: 0,
  };
}
