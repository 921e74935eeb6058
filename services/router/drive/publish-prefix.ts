import type { DrivenSession } from './driven-session.js';
import { prefixChunks } from './prefix-chunks.js';

/**
 * Offers the chunks of a kept session to others whose prompts begin alike.
 * @returns the chains, to be withdrawn when the session goes
 */
export async function publishPrefix(session: DrivenSession): Promise<string[]> {
  const { record, deps, sessionId } = session;
  const { epoch, reservation } = record;
  if (reservation === null) return [];
  const offered = (await prefixChunks(session)).map(({ chain, ...chunk }) => ({
    chain,
    donor: { sessionId, epoch, ...chunk },
  }));
  await session.surely(async () => deps.store.prefixes.publish(reservation.storeId, offered));
  return offered.map((offer) => offer.chain);
}

/**
 * Withdraws what other sessions offer of this one's segments, of which one does not match: the same
 * files are linked into no further prompt. Those sessions stay; each checks the bytes that it reads.
 */
export async function withdrawDamaged(session: DrivenSession): Promise<void> {
  const { record, deps, signal, sessionId } = session;
  const { prefixes } = deps.store;
  const { reservation } = record;
  if (reservation === null) return;
  const { storeId } = reservation;
  try {
    for (const { chain, fingerprint } of await prefixChunks(session)) {
      const donor = await session.surely(async () => prefixes.find(storeId, chain));
      if (donor?.fingerprint !== fingerprint) continue; // nobody, or a file of its own
      await session.surely(async () => prefixes.withdraw(storeId, donor.sessionId, [chain]));
    }
  } catch (error) {
    if (signal.aborted) throw error;
    deps.log.warn({ err: error, sessionId }, 'damaged segments are still offered');
  }
}
