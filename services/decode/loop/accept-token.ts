import type { FinishReason, TokenEvent } from '../../domain/session-event.js';
import type { RunningTurn } from './batch-session.js';

/** A token that the engine chose. */
export interface ChosenToken {
  readonly tokenId: number;
  readonly logprob: number;
  readonly rank: number;
}

export interface AcceptedToken {
  readonly event: TokenEvent;
  /** Set when the token ended the turn, with the text held back until now. */
  readonly end: { readonly reason: FinishReason; readonly text: string } | null;
}

export interface EndRules {
  readonly eosTokenIds: ReadonlySet<number>;
  /** Positions of the model: a token at the last one is not run any more. */
  readonly maxPositions: number;
}

/**
 * Turns a chosen token into its event and decides whether the turn ends with it: an
 * end-of-sequence id, a stop text, max_new_tokens, or the model's last position.
 *
 * @param tokens positions that K and V cover, this token not included
 */
export function acceptToken(
  turn: RunningTurn,
  chosen: ChosenToken,
  tokens: number,
  rules: EndRules,
): AcceptedToken {
  const { stopping } = turn.generation;
  const index = turn.completionTokens++;
  const shown = turn.text.push(chosen.tokenId);
  const event: TokenEvent = { type: 'token', index, text: shown.text, ...chosen };
  if (shown.stopped) return { event, end: { reason: 'stop_text', text: '' } };
  const isEos = !stopping.ignoreEos && rules.eosTokenIds.has(chosen.tokenId);
  const isLast = turn.completionTokens >= stopping.maxNewTokens || tokens >= rules.maxPositions;
  if (!isEos && !isLast) return { event, end: null };
  const rest = turn.text.end();
  const reason = rest.stopped ? 'stop_text' : isEos ? 'stop' : 'length';
  return { event, end: { reason, text: rest.text } };
}
