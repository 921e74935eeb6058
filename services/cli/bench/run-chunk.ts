import {
  prefillChunk,
  type PrefillChunkResult,
  type PrefillSessionHandle,
} from '../../../native/ts/index.js';
import { denseFromToken } from '../../domain/sparse-policy.js';
import type { TokenRange } from '../../domain/token-range.js';

/**
 * One chunk of a prompt of known length, as a worker runs it.
 * @throws NativeError CANCELLED once the session is cancelled
 */
export async function runChunk(
  session: PrefillSessionHandle,
  tokenIds: Uint32Array,
  { beginToken, endToken }: TokenRange,
): Promise<PrefillChunkResult> {
  const request = {
    tokenIds: tokenIds.slice(beginToken, endToken),
    beginToken,
    nextTokenId: null,
    logprobPositions: new Float64Array(0),
    denseFromToken: denseFromToken({ beginToken, endToken, totalTokens: tokenIds.length }),
  };
  return prefillChunk(session, request, () => undefined);
}
