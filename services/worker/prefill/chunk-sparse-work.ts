import type { PrefillChunkResult } from '../../../native/ts/index.js';
import { HEAD_PATTERNS } from '../../domain/head-pattern.js';
import type { SparseWork } from '../../domain/sparse-work.js';

const DENSE = HEAD_PATTERNS.indexOf('dense');

/** What a chunk of a sparse session did; one before the dense threshold has no sparse part. */
export function chunkSparseWork({ segment, sparse }: PrefillChunkResult): SparseWork {
  const { attendedKeys, causalKeys, layerAttendedKeys: _a, layerCausalKeys: _c, ...rest } = sparse;
  const tokens = segment.endToken - segment.beginToken;
  const isSparse = causalKeys.some((keys, pattern) => pattern !== DENSE && keys > 0);
  return {
    ...rest,
    sparseTokens: isSparse ? tokens : 0,
    denseTokens: isSparse ? 0 : tokens,
    attendedKeys: [...attendedKeys],
    causalKeys: [...causalKeys],
  };
}
