import type { AcceptedEvent } from '../../domain/session-event.js';
import type { Reservation, SessionRecord } from '../../domain/session-record.js';
import type { CheckedHeader } from '../admission/check-header.js';
import type { AppendTurnCall, StartSessionCall, TurnContext } from './peers.js';
import type { RecordChange } from './record-keeper.js';

/** Another turn on a kept session, as its ids came. */
export interface NextTurn {
  readonly tokenIds: readonly number[];
  /** Prompt and generated tokens of the turns before. */
  readonly cachedTokens: number;
  readonly admittedUnixMs: number;
}

export function acceptedEvent(record: SessionRecord): AcceptedEvent {
  const { model, modelFingerprint, policy, reservation } = record;
  const reservedBytes = reservation?.bytes ?? 0;
  const reservedTokens = reservation?.tokens ?? 0;
  return { type: 'accepted', model, modelFingerprint, policy, reservedBytes, reservedTokens };
}

/** The first turn, after its seal. */
export function startCall(
  record: SessionRecord,
  prefilledUnixMs: number,
  workerAddress: string,
): StartSessionCall {
  const { sessionId, epoch, fingerprint, generation, traceparent } = record;
  const context = turnContext(record, {
    admittedUnixMs: record.createdUnixMs,
    prefilledUnixMs,
    promptTokens: record.receivedTokens,
    cachedTokens: 0,
  });
  return { sessionId, epoch, fingerprint, generation, traceparent, context, workerAddress };
}

/** A turn that decode appends itself: it is prefilled there, so its prefill ends at admission. */
export function appendCall(record: SessionRecord, turn: NextTurn): AppendTurnCall {
  const { sessionId, epoch, generation, traceparent } = record;
  const { tokenIds, cachedTokens, admittedUnixMs } = turn;
  const context = turnContext(record, {
    admittedUnixMs,
    prefilledUnixMs: admittedUnixMs,
    promptTokens: cachedTokens + tokenIds.length,
    cachedTokens,
  });
  return { sessionId, epoch, tokenIds, generation, traceparent, context };
}

/** What another turn changes in the record. */
export function turnChange(
  turn: number,
  header: CheckedHeader,
  reservation: Reservation | null,
): RecordChange {
  const { generation, deadlineUnixMs, onDisconnect, resumeGraceMs, keepSessionMs } = header;
  return {
    state: 'decoding',
    keepUntilUnixMs: null,
    ...{ turn, reservation },
    ...{ generation, deadlineUnixMs, onDisconnect, resumeGraceMs, keepSessionMs },
  };
}

function turnContext(
  record: SessionRecord,
  facts: Pick<TurnContext, 'admittedUnixMs' | 'prefilledUnixMs' | 'promptTokens' | 'cachedTokens'>,
): TurnContext {
  return {
    ...facts,
    policy: record.policy,
    workerIds: record.lane,
    segmentBytes: record.segments.reduce((total, { bytes }) => total + bytes, 0),
    promptReran: false,
    keepSessionMs: record.keepSessionMs,
    deadlineUnixMs: record.deadlineUnixMs,
  };
}
