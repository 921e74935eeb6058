import type { SparseStats } from '../../native/ts/index.js';
import type { ResolvedPolicy } from '../../services/domain/policy.js';
import type { ResolvedSparsePolicy } from '../../services/domain/sparse-policy.js';
import type { SparseWork } from '../../services/domain/sparse-work.js';

/* What tests of sparse prefill begin from: each names only what it is about. */

/** Thresholds as admission resolves them. */
export function sparsePolicy(change: Partial<ResolvedSparsePolicy> = {}): ResolvedSparsePolicy {
  return {
    ...{ denseBelowTokens: 1_024, tilesPerBlock: 64, tilesOverrideFile: false },
    ...{ patternsSha256: 'e'.repeat(64), gamma: 0.9, tau: 0.1, minTiles: 8, guardInterval: 4 },
    ...change,
  };
}

/** A session's policy; null: dense. */
export function policyWith(
  sparse: ResolvedSparsePolicy | null,
  prefillPolicy: ResolvedPolicy['prefillPolicy'] = 'minference',
): ResolvedPolicy {
  return { prefillPolicy, cachePolicy: 'full', dtype: 'bf16', cutRule: 'cpu', sparse };
}

/** Of a chunk of a dense session, as the engine tells it of a stage of three layers. */
export const NO_SPARSE_STATS: SparseStats = {
  ...{ attendedKeys: new Float64Array(5), causalKeys: new Float64Array(5) },
  ...{ layerAttendedKeys: new Float64Array(3), layerCausalKeys: new Float64Array(3) },
  ...{ estimateMicros: 0, indexMicros: 0, attentionMicros: 0 },
  ...{ guardBlocks: 0, guardErrorSum: 0, guardErrorMax: 0 },
};

/** Of a sparse chunk: dense rows, windows, and vertical-slash heads in three layers. */
export const SPARSE_STATS: SparseStats = {
  attendedKeys: Float64Array.of(30, 5, 20, 0, 0),
  causalKeys: Float64Array.of(30, 10, 100, 0, 0),
  layerAttendedKeys: Float64Array.of(20, 20, 15),
  layerCausalKeys: Float64Array.of(50, 50, 40),
  ...{ estimateMicros: 30, indexMicros: 2, attentionMicros: 400 },
  ...{ guardBlocks: 2, guardErrorSum: 0.03, guardErrorMax: 0.02 },
};

/** What a sparse chunk of 1,024 tokens did that SPARSE_STATS are of. */
export function sparseWork(change: Partial<SparseWork> = {}): SparseWork {
  return {
    ...{ sparseTokens: 1_024, denseTokens: 0 },
    ...{ attendedKeys: [30, 5, 20, 0, 0], causalKeys: [30, 10, 100, 0, 0] },
    ...{ layerAttendedKeys: [20, 20, 15], layerCausalKeys: [50, 50, 40] },
    ...{ estimateMicros: 30, indexMicros: 2, attentionMicros: 400 },
    ...{ guardBlocks: 2, guardErrorSum: 0.03, guardErrorMax: 0.02 },
    ...change,
  };
}
