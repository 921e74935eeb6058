import type { AcceptedEvent } from '../../domain/session-event.js';
import type { SessionRecord } from '../../domain/session-record.js';
import type { AppendTurnCall, StartSessionCall, TurnContext } from './peers.js';

/** What decode has to run again before it goes on. */
export interface TurnHistory {
  /** Tokens after the sealed ones. */
  readonly tokenIds: readonly number[];
  /** How many of the last of them are this turn's answer. */
  readonly answeredTokens: number;
  readonly firstTokenUnixMs: number | null;
}

export function acceptedEvent(record: SessionRecord): AcceptedEvent {
  const { model, modelFingerprint, policy, reservation } = record;
  const reservedBytes = reservation?.bytes ?? 0;
  const reservedTokens = reservation?.tokens ?? 0;
  return { type: 'accepted', model, modelFingerprint, policy, reservedBytes, reservedTokens };
}

/** A decode takes a sealed session: for its first turn, or where another decode left it. */
export function startCall(
  record: SessionRecord,
  history: TurnHistory,
  workerAddress: string,
): StartSessionCall {
  const { sessionId, epoch, attempt, fingerprint, generation, traceparent, turn } = record;
  return {
    ...{ sessionId, epoch, attempt, fingerprint, generation, traceparent, workerAddress },
    turn: turn.number,
    turnBeginToken: turn.beginToken,
    historyTokenIds: history.tokenIds,
    answeredTokens: history.answeredTokens,
    answers: record.answers.filter(({ endToken }) => endToken > record.sealedTokens),
    context: turnContext(record, history.firstTokenUnixMs),
  };
}

/** A turn that the decode which holds the session appends. */
export function appendCall(record: SessionRecord, tokenIds: readonly number[]): AppendTurnCall {
  const { sessionId, epoch, attempt, generation, traceparent, turn } = record;
  return {
    ...{ sessionId, epoch, attempt, tokenIds, generation, traceparent },
    turn: turn.number,
    context: turnContext(record, null),
  };
}

function turnContext(record: SessionRecord, firstTokenUnixMs: number | null): TurnContext {
  const { turn, policy, lane, segments, keepSessionMs, deadlineUnixMs } = record;
  return {
    policy,
    admittedUnixMs: turn.admittedUnixMs,
    // A turn that decode appends is prefilled there: its prefill ends at admission.
    prefilledUnixMs: turn.prefilledUnixMs ?? turn.admittedUnixMs,
    promptTokens: turn.endToken ?? record.receivedTokens,
    cachedTokens: turn.cachedTokens,
    workerIds: lane,
    segmentBytes: segments.reduce((total, { bytes }) => total + bytes, 0),
    promptReran: turn.promptReran,
    sparseWork: turn.sparseWork,
    ...{ keepSessionMs, deadlineUnixMs, firstTokenUnixMs },
  };
}
