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

/** Where the prompt's dense last rows begin; null for a chunk that has none of them. */
export function denseFromToken(
  chunk: { readonly endToken: number; readonly totalTokens: number | null },
  denseTailRows: number,
): number | null {
  const { endToken, totalTokens } = chunk;
  return endToken === totalTokens ? Math.max(0, totalTokens - denseTailRows) : null;
}
