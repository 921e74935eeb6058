import type { PrefillChunkResult } from '../../../native/ts/index.js';
import type { SparseWork } from '../../domain/sparse-work.js';

/** What a chunk of a sparse session did; one before the dense threshold has no sparse part. */
export function chunkSparseWork({ segment, sparse }: PrefillChunkResult): SparseWork {
  const { attendedKeys, causalKeys, ...rest } = sparse;
  const tokens = segment.endToken - segment.beginToken;
  const isSparse = causalKeys.some((keys) => keys > 0);
  return {
    ...rest,
    sparseTokens: isSparse ? tokens : 0,
    denseTokens: isSparse ? 0 : tokens,
    attendedKeys: [...attendedKeys],
    causalKeys: [...causalKeys],
  };
}
