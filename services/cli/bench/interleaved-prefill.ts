import {
  closePrefillSession,
  openPrefillSession,
  prefillChunk,
  type EngineHandle,
  type PrefillChunkResult,
  type PrefillSessionHandle,
  type SparsePolicy,
  type ValueStoreHandle,
} from '../../../native/ts/index.js';
import { type CutRule, planPrefillChunks } from '../../domain/plan-prefill-chunks.js';
import { denseFromToken } from '../../domain/sparse-policy.js';
import type { TokenRange } from '../../domain/token-range.js';

/** A policy as it is measured. */
export interface MeasuredPolicy {
  readonly name: string;
  /** Null: dense. */
  readonly sparse: SparsePolicy | null;
  /** Chunks that begin at this position or later are left out; Infinity: none. */
  readonly untilToken: number;
}

/** One policy's part of one chunk. */
export interface MeasuredChunk extends TokenRange {
  readonly policy: string;
  readonly result: PrefillChunkResult;
}

/**
 * Prefills one prompt under several policies at once, chunk by chunk and in turns, so that what else
 * the machine does falls on all of them alike. Policies have sessions of their own in `store`.
 *
 * @param sessionIds one a policy, 32 hex digits; their files are the caller's to remove
 */
export async function* interleavedPrefill(
  engine: EngineHandle,
  store: ValueStoreHandle,
  sessionIds: readonly string[],
  policies: readonly MeasuredPolicy[],
  tokenIds: Uint32Array,
  cutRule: CutRule,
): AsyncGenerator<MeasuredChunk> {
  const sessions: PrefillSessionHandle[] = [];
  try {
    for (const [at, { sparse }] of policies.entries()) {
      const sessionId = sessionIds[at] ?? '';
      const key = { sessionId, epoch: 1, stage: 0, fingerprint: sessionId, origins: [] };
      sessions.push(openPrefillSession(engine, store, key, sparse));
    }
    for (const [turn, chunk] of planPrefillChunks(tokenIds.length, cutRule).entries()) {
      // Who begins changes with every chunk: the first one finds colder caches.
      for (const step of policies.keys()) {
        const at = (step + turn) % policies.length;
        const [policy, session] = [policies[at], sessions[at]];
        if (policy === undefined || session === undefined) continue;
        if (chunk.beginToken >= policy.untilToken) continue;
        const result = await runChunk(session, tokenIds, chunk);
        yield { ...chunk, policy: policy.name, result };
      }
    }
  } finally {
    for (const session of sessions) await closePrefillSession(session);
  }
}

async function runChunk(
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
