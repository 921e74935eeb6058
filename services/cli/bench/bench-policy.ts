import type { ComputeDtype, EngineInfo, SparsePolicy } from '../../../native/ts/index.js';
import type { CutRule } from '../../domain/plan-prefill-chunks.js';
import type { PrefillPolicy } from '../../domain/policy.js';
import {
  DEFAULT_DENSE_BELOW_TOKENS,
  DEFAULT_TILES_PER_BLOCK,
  FLEX_DEFAULTS,
  type ResolvedSparsePolicy,
} from '../../domain/sparse-policy.js';
import { nativeSparsePolicy } from '../../engine-host/native-sparse-policy.js';
import type { LoadedPatterns } from '../../platform/patterns/load-patterns.js';
import { checkPatternShape } from '../../platform/patterns/parse-patterns.js';

/** Cuts of the chunks that measurements run. */
export const BENCH_CUT_RULE: CutRule = 'cpu';

/** Thresholds of sparse prefill; the pattern file is read apart. */
export type BenchThresholds = Omit<ResolvedSparsePolicy, 'patternsSha256'>;

/** What a router resolves where nothing is set, but for the guard: it costs time. */
export const SERVED_THRESHOLDS: BenchThresholds = {
  denseBelowTokens: DEFAULT_DENSE_BELOW_TOKENS,
  tilesPerBlock: DEFAULT_TILES_PER_BLOCK,
  tilesOverrideFile: false,
  ...FLEX_DEFAULTS,
  guardInterval: 0,
};

/**
 * A policy as a worker gives it to the engine, resolved the way a session's is.
 *
 * @returns null for dense prefill
 * @throws ServingError for a pattern file that does not fit the model
 */
export function benchPolicy(
  prefillPolicy: PrefillPolicy,
  dtype: ComputeDtype,
  thresholds: BenchThresholds,
  info: EngineInfo,
  patterns: LoadedPatterns,
): SparsePolicy | null {
  if (prefillPolicy === 'dense') return null;
  if (patterns.path !== null) checkPatternShape(patterns.patterns, info, patterns.path);
  const { layerBegin, layerEnd, queryHeads } = info;
  const patternsSha256 = prefillPolicy === 'minference' ? patterns.sha256 : '';
  return nativeSparsePolicy(
    {
      ...{ prefillPolicy, cachePolicy: 'full', dtype, cutRule: BENCH_CUT_RULE },
      sparse: { ...thresholds, patternsSha256 },
    },
    { patterns, layerBegin, layerEnd, queryHeads },
  );
}
