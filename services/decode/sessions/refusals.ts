import { ServingError } from '../../domain/serving-error.js';
import { MAX_TURN_TOKENS } from '../../domain/turn.js';
import type { BatchSession } from '../loop/batch-session.js';
import { PRIVATE_MEMORY_DETAILS } from '../loop/turn-failure.js';
import type { AppendTurn, StartSession } from './requests.js';

/** What no session here can pass. */
export interface SessionLimits {
  readonly maxPositions: number;
  readonly vocabSize: number;
}

/** @throws ServingError TOKEN_ID_OUT_OF_RANGE or BAD_REQUEST, before anything is fetched */
export function refuseWrongStart(
  { history, generation }: StartSession,
  limits: SessionLimits,
): void {
  const { tokenIds, answeredTokens } = history;
  if (answeredTokens > tokenIds.length) {
    throw new ServingError(
      'BAD_REQUEST',
      `answered_tokens is ${String(answeredTokens)}; the history has ${String(tokenIds.length)}`,
    );
  }
  refuseForeignIds(tokenIds, 'history_token_ids', limits);
  refuseForeignIds(generation.forcedTokenIds, 'forced_tokens', limits);
}

/**
 * Of a session whose hand-off is here.
 *
 * @throws ServingError PROMPT_TOO_LONG or BAD_REQUEST
 */
export function refuseWrongHistory(
  { history }: StartSession,
  sealedTokens: number,
  { maxPositions }: SessionLimits,
): void {
  const answerBegin = sealedTokens + history.tokenIds.length - history.answeredTokens;
  if (history.turnBeginToken > answerBegin) {
    throw new ServingError(
      'BAD_REQUEST',
      `turn_begin_token is ${String(history.turnBeginToken)}; its answer begins at ` +
        String(answerBegin),
    );
  }
  // The last token of an answer is not run before the next one is wanted.
  const rows = history.tokenIds.length - Math.min(1, history.answeredTokens);
  if (sealedTokens + rows > maxPositions) {
    throw new ServingError(
      'PROMPT_TOO_LONG',
      `the model has ${String(maxPositions)} positions; the hand-off covers ` +
        `${String(sealedTokens)} and the history has ${String(history.tokenIds.length)}`,
    );
  }
}

/** @throws ServingError EMPTY_PROMPT, PROMPT_TOO_LONG or TOKEN_ID_OUT_OF_RANGE */
export function refuseWrongTurn(
  { tokenIds, generation }: AppendTurn,
  session: BatchSession,
  limits: SessionLimits,
): void {
  if (tokenIds.length === 0) throw new ServingError('EMPTY_PROMPT', 'the turn has no tokens');
  if (tokenIds.length > MAX_TURN_TOKENS) {
    throw new ServingError(
      'PROMPT_TOO_LONG',
      `decode appends turns of at most ${String(MAX_TURN_TOKENS)} tokens`,
    );
  }
  if (session.endToken + tokenIds.length > limits.maxPositions) {
    throw new ServingError(
      'PROMPT_TOO_LONG',
      `the model has ${String(limits.maxPositions)} positions; the session holds ` +
        `${String(session.endToken)} and the turn has ${String(tokenIds.length)}`,
    );
  }
  refuseForeignIds(tokenIds, 'token_ids', limits);
  refuseForeignIds(generation.forcedTokenIds, 'forced_tokens', limits);
}

export function tooManySessions(maxSessions: number): ServingError {
  return new ServingError(
    'TOO_MANY_SESSIONS',
    `this decode holds its ${String(maxSessions)} sessions`,
    { quota: { subject: 'decode sessions', description: 'DECODE_MAX_SESSIONS' } },
  );
}

export function noPrivateMemory(): ServingError {
  return new ServingError(
    'VALUE_STORE_FULL',
    'decode has no private memory left for this session',
    PRIVATE_MEMORY_DETAILS,
  );
}

function refuseForeignIds(
  ids: ArrayLike<number>,
  field: string,
  { vocabSize }: SessionLimits,
): void {
  for (let index = 0; index < ids.length; index++) {
    if ((ids[index] ?? 0) < vocabSize) continue;
    throw new ServingError(
      'TOKEN_ID_OUT_OF_RANGE',
      `${field}[${String(index)}] is ${String(ids[index])}; the vocabulary has ` +
        `${String(vocabSize)} ids`,
    );
  }
}
