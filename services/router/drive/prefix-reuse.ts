import type { PrefixDonor } from '../../domain/session-store.js';
import type { TokenRange } from '../../domain/token-range.js';
import { extendPrefixChain, prefixChainStart } from '../../platform/prefix-chain.js';
import { clipPromptLogprobs, nextCut } from '../../domain/plan-prefill-chunks.js';
import type { DrivenSession } from './driven-session.js';

/**
 * Links chunks of kept sessions into a new one while its prompt begins like theirs, by the hash chain
 * over its chunks. Ends at the first chunk that nobody has.
 */
export class PrefixReuse {
  #chain: string | null;

  /** @param active false for a session that has run chunks already */
  constructor(session: DrivenSession, active: boolean) {
    const { modelFingerprint, policy, tenant } = session.record;
    this.#chain = active ? prefixChainStart({ modelFingerprint, policy, tenant }) : null;
  }

  /** @returns whether the chunk is there now and need not run */
  async take(session: DrivenSession, chunk: TokenRange): Promise<boolean> {
    const chain = this.#chain;
    if (chain === null) return false;
    this.#chain = null; // until this chunk is linked
    if (!isSharable(session, chunk)) return false;
    const { tokens, record, deps } = session;
    const ids = await session.surely(async () => tokens.slice(chunk.beginToken, chunk.endToken));
    const next = extendPrefixChain(chain, ids);
    const storeId = record.reservation?.storeId ?? '';
    const donor = await session.surely(async () => deps.store.prefixes.find(storeId, next));
    if (donor?.beginToken !== chunk.beginToken || donor.endToken !== chunk.endToken) return false;
    await session.surely(async () => tokens.keep(chunk));
    if (!(await link(session, donor))) return false;
    this.#chain = next;
    return true;
  }
}

/** The tail never matches, and log-probabilities come only of rows that run. */
function isSharable({ record }: DrivenSession, chunk: TokenRange): boolean {
  if (chunk.endToken !== nextCut(chunk.beginToken, record.policy.cutRule)) return false;
  return clipPromptLogprobs(record.generation.promptLogprobs, chunk, false).length === 0;
}

async function link(session: DrivenSession, donor: PrefixDonor): Promise<boolean> {
  const { deps, record, signal, sessionId } = session;
  const { beginToken, endToken, fingerprint } = donor;
  const worker = await session.currentWorker();
  if (worker === null) return false;
  const call = {
    ...{ sessionId, epoch: record.epoch, beginToken, endToken },
    ...{ sourceSessionId: donor.sessionId, sourceEpoch: donor.epoch },
  };
  const linked = await deps.workers
    .reuseSegments(worker.address, call, signal)
    .catch((error: unknown) => {
      if (signal.aborted) throw error;
      deps.log.info({ err: error, sessionId }, 'a prefix was not linked');
      return null;
    });
  if (linked === null) return false;
  const segments = linked.map((segment) => ({ stage: 0, ...segment }));
  await session.change((now) => ({
    nextToken: endToken,
    receivedTokens: session.tokens.received,
    segments: [...now.segments, ...segments],
    origins: [...now.origins, { beginToken, endToken, fingerprint }],
    turn: { ...now.turn, cachedTokens: endToken },
  }));
  deps.metrics.prefixReused(endToken - beginToken);
  await tellProgress(session);
  return true;
}

async function tellProgress(session: DrivenSession): Promise<void> {
  const { deps, record, sessionId, tokens } = session;
  const { nextToken, epoch, turn } = record;
  const event = {
    type: 'progress',
    processedTokens: nextToken,
    totalTokens: tokens.closed ? tokens.received : null,
    cachedTokens: turn.cachedTokens,
    etaMs: null,
    promptLogprobs: [],
  } as const;
  await session.surely(async () => deps.store.events.append(sessionId, epoch, event));
}
