import { setImmediate as nextTick } from 'node:timers/promises';
import { ServingError } from '../../domain/serving-error.js';
import type { FinishReason, TokenEvent } from '../../domain/session-event.js';
import type { RunningTurn } from './turn.js';

/** A token that the engine chose. */
export interface ChosenToken {
  readonly tokenId: number;
  readonly logprob: number;
  readonly rank: number;
}

/** How an answer ended. */
export interface AnswerEnd {
  readonly reason: FinishReason;
  /** Held back until now. */
  readonly text: string;
}

export interface AcceptedToken {
  readonly event: TokenEvent;
  /** Set when the token ended the turn. */
  readonly end: AnswerEnd | null;
}

export interface EndRules {
  readonly eosTokenIds: ReadonlySet<number>;
  /** Positions of the model: a token at the last one is not run any more. */
  readonly maxPositions: number;
}

/** A token's text costs some microseconds; others' steps are not to wait for a whole answer's. */
const RESTORED_AT_ONCE = 100;

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

/**
 * Brings a turn to where an earlier attempt left it: the same text is held back, and the next token
 * has the next index.
 *
 * @param beginToken absolute position of the answer's first token
 * @returns how the turn ended, if its last token ended it
 * @throws ServingError BAD_REQUEST if the answer ends before its last token
 */
export async function restoreAnswer(
  turn: RunningTurn,
  tokenIds: Uint32Array,
  beginToken: number,
  rules: EndRules,
): Promise<AnswerEnd | null> {
  for (const [index, tokenId] of tokenIds.entries()) {
    if (index % RESTORED_AT_ONCE === RESTORED_AT_ONCE - 1) await nextTick();
    const { end } = acceptToken(turn, { tokenId, logprob: 0, rank: 0 }, beginToken + index, rules);
    if (end === null) continue;
    if (index === tokenIds.length - 1) return end;
    throw new ServingError(
      'BAD_REQUEST',
      `answered_tokens: the answer ends at token ${String(index)} of ${String(tokenIds.length)}`,
    );
  }
  return null;
}
