import type { SparseStats } from '../../native/ts/index.js';
import { HEAD_PATTERNS, type HeadPatternName } from '../../services/domain/head-pattern.js';
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

/** Counts of all patterns; 0 where nothing is said. */
export function byPattern(counts: Partial<Record<HeadPatternName, number>>): number[] {
  return HEAD_PATTERNS.map((pattern) => counts[pattern] ?? 0);
}

/** Of a chunk of a dense session, as the engine tells it of a stage of three layers. */
export const NO_SPARSE_STATS: SparseStats = {
  attendedKeys: Float64Array.from(byPattern({})),
  causalKeys: Float64Array.from(byPattern({})),
  ...{ layerAttendedKeys: new Float64Array(3), layerCausalKeys: new Float64Array(3) },
  ...{ estimateMicros: 0, indexMicros: 0, attentionMicros: 0 },
  ...{ guardBlocks: 0, guardErrorSum: 0, guardErrorMax: 0 },
};

const ATTENDED = byPattern({ dense: 30, 'a-shape': 5, 'vertical-slash': 20 });
const CAUSAL = byPattern({ dense: 30, 'a-shape': 10, 'vertical-slash': 100 });

/** Of a sparse chunk: dense rows, windows, and vertical-slash heads in three layers. */
export const SPARSE_STATS: SparseStats = {
  attendedKeys: Float64Array.from(ATTENDED),
  causalKeys: Float64Array.from(CAUSAL),
  layerAttendedKeys: Float64Array.of(20, 20, 15),
  layerCausalKeys: Float64Array.of(50, 50, 40),
  ...{ estimateMicros: 30, indexMicros: 2, attentionMicros: 400 },
  ...{ guardBlocks: 2, guardErrorSum: 0.03, guardErrorMax: 0.02 },
};

/** What a sparse chunk of 1,024 tokens did that SPARSE_STATS are of. */
export function sparseWork(change: Partial<SparseWork> = {}): SparseWork {
  return {
    ...{ sparseTokens: 1_024, denseTokens: 0 },
    ...{ attendedKeys: ATTENDED, causalKeys: CAUSAL },
    ...{ layerAttendedKeys: [20, 20, 15], layerCausalKeys: [50, 50, 40] },
    ...{ estimateMicros: 30, indexMicros: 2, attentionMicros: 400 },
    ...{ guardBlocks: 2, guardErrorSum: 0.03, guardErrorMax: 0.02 },
    ...change,
  };
}
