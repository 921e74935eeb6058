import type { Report } from '../../../proto/gen/longshadow/router/v1/Report.js';
import type { ResolvedSparsePrefill } from '../../../proto/gen/longshadow/router/v1/ResolvedSparsePrefill.js';
import type { HeadPatternName } from '../../domain/head-pattern.js';
import type { TurnReport } from '../../domain/session-event.js';
import type { ResolvedSparsePolicy } from '../../domain/sparse-policy.js';
import { patternDensities, selectionShare, totalDensity } from '../../domain/sparse-work.js';

const HEAD_PATTERN = {
  dense: 'HEAD_PATTERN_DENSE',
  'a-shape': 'HEAD_PATTERN_A_SHAPE',
  'vertical-slash': 'HEAD_PATTERN_VERTICAL_SLASH',
  'block-sparse': 'HEAD_PATTERN_BLOCK_SPARSE',
  flex: 'HEAD_PATTERN_FLEX',
  'key-bounds': 'HEAD_PATTERN_KEY_BOUNDS',
} as const satisfies Record<HeadPatternName, string>;

export function toWireThresholds(sparse: ResolvedSparsePolicy): ResolvedSparsePrefill {
  const { guardInterval: _, ...thresholds } = sparse;
  return thresholds;
}

/** The report's part on sparse prefill; nothing where none ran. */
export function sparseReportField({
  policy,
  sparseWork: work,
  promptTokens,
}: TurnReport): Pick<Report, 'sparsePrefill'> {
  if (policy.sparse === null || work === null) return {};
  const { sparseTokens, denseTokens, guardBlocks } = work;
  return {
    sparsePrefill: {
      thresholds: toWireThresholds(policy.sparse),
      ...{ sparseTokens, denseTokens, guardBlocks },
      reusedTokens: Math.max(0, promptTokens - sparseTokens - denseTokens),
      densities: patternDensities(work).map(({ pattern, ...rest }) => ({
        pattern: HEAD_PATTERN[pattern],
        ...rest,
      })),
      density: totalDensity(work),
      layerAttendedKeys: [...work.layerAttendedKeys],
      layerCausalKeys: [...work.layerCausalKeys],
      selectionShare: selectionShare(work),
      estimateMicros: Math.round(work.estimateMicros),
      indexMicros: Math.round(work.indexMicros),
      attentionMicros: Math.round(work.attentionMicros),
      guardErrorMean: guardBlocks > 0 ? work.guardErrorSum / guardBlocks : 0,
      guardErrorMax: work.guardErrorMax,
    },
  };
}
