import type { PrefixDonor } from '../../domain/session-store.js';
import { extendPrefixChain, prefixChainStart } from '../../platform/prefix-chain.js';
import { nextCut } from '../plan/plan-prefill-chunks.js';
import type { DrivenSession } from './driven-session.js';
import { originsOf } from './reuse-segments.js';

/**
 * Offers the chunks of a kept session to others whose prompts begin alike: all but those whose end
 * the prompt's own end has moved.
 * @returns the chains, to be withdrawn when the session goes
 */
export async function publishPrefix(session: DrivenSession): Promise<string[]> {
  const { record, deps, sessionId } = session;
  const { modelFingerprint, policy, tenant, epoch, reservation } = record;
  if (reservation === null) return [];
  const origins = originsOf(record, record.nextToken);
  const offered: { chain: string; donor: PrefixDonor }[] = [];
  let chain = prefixChainStart({ modelFingerprint, policy, tenant });
  for (const { beginToken, endToken } of record.segments) {
    if (endToken !== nextCut(beginToken, policy.cutRule)) break;
    const ids = await session.surely(async () => session.tokens.slice(beginToken, endToken));
    chain = extendPrefixChain(chain, ids);
    const origin = origins.find(
      (range) => range.beginToken <= beginToken && endToken <= range.endToken,
    );
    const fingerprint = origin?.fingerprint ?? record.fingerprint;
    offered.push({ chain, donor: { sessionId, epoch, beginToken, endToken, fingerprint } });
  }
  await session.surely(async () => deps.store.prefixes.publish(reservation.storeId, offered));
  return offered.map((offer) => offer.chain);
}
