import type { PrefillChunkResult } from '../../../native/ts/index.js';
import { HEAD_PATTERNS } from '../../domain/head-pattern.js';
import type { SparseWork } from '../../domain/sparse-work.js';

const DENSE = HEAD_PATTERNS.indexOf('dense');

/**
 * What a chunk of a sparse session did; one before the dense threshold has no sparse part.
 * @param layerBegin of the model's layers, the first that ran it here
 */
export function chunkSparseWork(
  { segment, sparse }: PrefillChunkResult,
  layerBegin: number,
): SparseWork {
  const { attendedKeys, causalKeys, layerAttendedKeys, layerCausalKeys, ...rest } = sparse;
  const byLayer = (keys: Float64Array): number[] => [
    ...Array.from({ length: layerBegin }, () => 0),
    ...keys,
  ];
  const tokens = segment.endToken - segment.beginToken;
  const isSparse = causalKeys.some((keys, pattern) => pattern !== DENSE && keys > 0);
  return {
    ...rest,
    sparseTokens: isSparse ? tokens : 0,
    denseTokens: isSparse ? 0 : tokens,
    attendedKeys: [...attendedKeys],
    causalKeys: [...causalKeys],
    layerAttendedKeys: byLayer(layerAttendedKeys),
    layerCausalKeys: byLayer(layerCausalKeys),
  };
}
