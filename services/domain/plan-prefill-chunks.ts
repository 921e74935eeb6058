import type { TokenRange } from './token-range.js';

/** Which hardware the cuts are made for. */
export type CutRule = 'cpu' | 'gpu';

/** Cuts, the tail's beginning and segment pages fall on multiples of this many tokens. */
export const CUT_ALIGNMENT_TOKENS = 512;
/**
 * Tokens that are never run before the upload closes: the prompt's last rows are dense and belong
 * to the tail, and until the end is known any of the newest 128 may be among them.
 */
export const HELD_BACK_TOKENS = 128;

/** Where an upload stands. */
export interface PlanState {
  /** First position that no chunk covers yet. */
  readonly nextToken: number;
  /** Tokens received so far. */
  readonly receivedTokens: number;
  /** True once receivedTokens is the prompt's length. */
  readonly uploadClosed: boolean;
}

/**
 * The first cut after `position`. It depends on position alone, so that equal prefixes give equal
 * chunks. Chunks grow with position on a CPU, because a chunk's cost grows with the keys before it
 * while the overhead a chunk does not.
 */
export function nextCut(position: number, rule: CutRule): number {
  const step = rule === 'gpu' ? 32_768 : cpuStep(position);
  return (Math.floor(position / step) + 1) * step;
}

function cpuStep(position: number): number {
  if (position < 32_768) return 2_048;
  return position < 131_072 ? 8_192 : 16_384;
}

/** First position of the tail of a prompt: the greatest multiple of 512 that leaves it 128 tokens. */
export function tailBegin(promptTokens: number): number {
  const lastPossible = promptTokens - HELD_BACK_TOKENS;
  if (lastPossible < CUT_ALIGNMENT_TOKENS) return 0;
  return Math.floor(lastPossible / CUT_ALIGNMENT_TOKENS) * CUT_ALIGNMENT_TOKENS;
}

/**
 * The next chunk that can run, or null when more tokens are needed or nothing is left.
 *
 * While the upload is open a chunk runs once 128 more tokens than it holds are there: the tail then
 * begins at its end or later, whatever follows. So streaming gives the plan of the closed prompt.
 *
 * @param turnCuts where the tails of a continued session's earlier turns began, ascending. Their chunks
 *   are kept, so every plan of the session cuts there: what runs again runs as it ran
 */
export function nextChunk(
  state: PlanState,
  rule: CutRule,
  turnCuts: readonly number[] = [],
): TokenRange | null {
  const { nextToken, receivedTokens, uploadClosed } = state;
  if (nextToken >= receivedTokens) return null;
  const turnCut = turnCuts.find((position) => position > nextToken) ?? Infinity;
  const cut = Math.min(nextCut(nextToken, rule), turnCut);
  if (cut <= receivedTokens - HELD_BACK_TOKENS) return { beginToken: nextToken, endToken: cut };
  if (!uploadClosed) return null;
  const tail = tailBegin(receivedTokens);
  const endToken = nextToken < tail ? tail : receivedTokens;
  return { beginToken: nextToken, endToken };
}

/** All chunks of a prompt of known length, in order. */
export function planPrefillChunks(
  promptTokens: number,
  rule: CutRule,
  turnCuts: readonly number[] = [],
): TokenRange[] {
  const chunks: TokenRange[] = [];
  const closed = { receivedTokens: promptTokens, uploadClosed: true };
  let nextToken = 0;
  for (;;) {
    const chunk = nextChunk({ ...closed, nextToken }, rule, turnCuts);
    if (chunk === null) return chunks;
    chunks.push(chunk);
    nextToken = chunk.endToken;
  }
}

/**
 * The part of the wanted positions whose log-probability a chunk computes. Row p - 1 predicts the
 * token at position p, so a chunk `[begin, end)` answers for `(begin, end]`, and the prompt's last
 * chunk, which has no token after it, for `(begin, end)`. Position 0 is predicted by no row.
 */
export function clipPromptLogprobs(
  wanted: readonly TokenRange[],
  chunk: TokenRange,
  isLast: boolean,
): TokenRange[] {
  const first = chunk.beginToken + 1;
  const pastLast = isLast ? chunk.endToken : chunk.endToken + 1;
  return wanted
    .map(({ beginToken, endToken }) => ({
      beginToken: Math.max(beginToken, first),
      endToken: Math.min(endToken, pastLast),
    }))
    .filter(({ beginToken, endToken }) => beginToken < endToken);
}
