import type { TokenRange } from '../../domain/token-range.js';
import { extendPrefixChain, prefixChainStart } from '../../platform/prefix-chain.js';
import { nextCut } from '../../domain/plan-prefill-chunks.js';
import type { DrivenSession } from './driven-session.js';
import { originsOf } from './reuse-segments.js';

/** A finished chunk that other prompts may have too. */
export interface PrefixChunk extends TokenRange {
  /** Of all tokens up to its end: platform/prefix-chain.ts. */
  readonly chain: string;
  /** That its segment carries. */
  readonly fingerprint: string;
}

/**
 * The finished chunks of a session that may be other prompts' as well: all but those whose end the
 * prompt's own end has moved.
 * @throws ServingError DATA_LOSS if its ids are damaged
 */
export async function prefixChunks(session: DrivenSession): Promise<PrefixChunk[]> {
  const { record } = session;
  const { modelFingerprint, policy, tenant } = record;
  const origins = originsOf(record, record.nextToken);
  const chunks: PrefixChunk[] = [];
  let chain = prefixChainStart({ modelFingerprint, policy, tenant });
  for (const { beginToken, endToken } of record.segments) {
    if (endToken !== nextCut(beginToken, policy.cutRule)) break;
    const ids = await session.surely(async () => session.tokens.slice(beginToken, endToken));
    chain = extendPrefixChain(chain, ids);
    const origin = origins.find(
      (range) => range.beginToken <= beginToken && endToken <= range.endToken,
    );
    const fingerprint = origin?.fingerprint ?? record.fingerprint;
    chunks.push({ chain, beginToken, endToken, fingerprint });
  }
  return chunks;
}
