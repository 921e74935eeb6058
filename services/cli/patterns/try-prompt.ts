import { randomBytes } from 'node:crypto';
import {
  cancelPrefillSession,
  closePrefillSession,
  openPrefillSession,
  prefillChunk,
  removeSessionFiles,
  tryPatterns,
  type EngineHandle,
  type PatternTrialResult,
  type PrefillChunkRequest,
  type TriedHead,
  type ValueStoreHandle,
} from '../../../native/ts/index.js';
import { planPrefillChunks } from '../../domain/plan-prefill-chunks.js';
import { ServingError } from '../../domain/serving-error.js';
import { DENSE_TAIL_ROWS, denseFromToken } from '../../domain/sparse-policy.js';
import type { TokenRange } from '../../domain/token-range.js';

const CUT_RULE = 'cpu';

/** What is tried on a prompt. */
export interface PromptTrial {
  readonly tokenIds: Uint32Array;
  /** As candidateBudgets gives them. */
  readonly budgets: Float64Array;
  readonly denseBelowTokens: number;
  /** Whose keys are wanted; null: nobody's. */
  readonly shown: TriedHead | null;
  /** Rejects what runs with CANCELLED. */
  readonly stop: AbortSignal;
}

/**
 * Prefills a prompt densely, in the chunks of serving, and tries patterns on every chunk that would
 * be sparse there. Nothing of it stays in the store.
 *
 * @param onChunk after each chunk; null: it was not tried
 * @throws ServingError BAD_REQUEST for a prompt none of whose rows would be sparse
 */
export async function tryPrompt(
  engine: EngineHandle,
  store: ValueStoreHandle,
  trial: PromptTrial,
  onChunk: (chunk: TokenRange, result: PatternTrialResult | null) => void,
): Promise<void> {
  const { tokenIds, denseBelowTokens, stop } = trial;
  refuseShort(tokenIds.length, denseBelowTokens);
  const sessionId = randomBytes(16).toString('hex');
  const key = { sessionId, epoch: 1, stage: 0, fingerprint: sessionId, origins: [] };
  const session = openPrefillSession(engine, store, key, null);
  const cancel = (): void => {
    cancelPrefillSession(session);
  };
  stop.addEventListener('abort', cancel);
  if (stop.aborted) cancel();
  try {
    for (const chunk of planPrefillChunks(tokenIds.length, CUT_RULE)) {
      const request = chunkRequest(tokenIds, chunk);
      if (chunk.endToken <= denseBelowTokens) {
        await prefillChunk(session, request, () => undefined);
        onChunk(chunk, null);
      } else {
        onChunk(chunk, await tryPatterns(session, request, trial.budgets, trial.shown));
      }
    }
  } finally {
    stop.removeEventListener('abort', cancel);
    await closePrefillSession(session);
    removeSessionFiles(store, sessionId);
  }
}

function chunkRequest(
  tokenIds: Uint32Array,
  { beginToken, endToken }: TokenRange,
): PrefillChunkRequest {
  return {
    tokenIds: tokenIds.slice(beginToken, endToken),
    beginToken,
    nextTokenId: null,
    logprobPositions: new Float64Array(0),
    denseFromToken: denseFromToken({ beginToken, endToken, totalTokens: tokenIds.length }),
  };
}

function refuseShort(tokens: number, denseBelowTokens: number): void {
  const last = planPrefillChunks(tokens, CUT_RULE).filter(
    ({ beginToken, endToken }) =>
      endToken > denseBelowTokens && tokens - DENSE_TAIL_ROWS - beginToken >= 64,
  );
  if (last.length > 0) return;
  throw new ServingError(
    'BAD_REQUEST',
    `a prompt of ${String(tokens)} tokens is dense throughout: give a greater --tokens` +
      (denseBelowTokens > 0 ? ' or a smaller --dense-below' : ''),
  );
}
