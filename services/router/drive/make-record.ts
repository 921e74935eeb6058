import {
  SESSION_SCHEMA_VERSION,
  type SessionRecord,
  type TurnRecord,
} from '../../domain/session-record.js';
import { sessionFingerprint } from '../../platform/fingerprint.js';
import type { CheckedHeader } from '../admission/check-header.js';
import type { PlacedSession } from '../admission/reserve-lane.js';
import type { ServedModel } from '../admission/served-model.js';

/** The record of an admitted session, before its first part. */
export function makeRecord(from: {
  readonly sessionId: string;
  readonly model: ServedModel;
  readonly checked: CheckedHeader;
  readonly placed: PlacedSession;
  readonly policy: SessionRecord['policy'];
  readonly traceparent: string | null;
  readonly nowUnixMs: number;
}): SessionRecord {
  const { sessionId, model, checked, placed, policy, traceparent, nowUnixMs } = from;
  const epoch = 1;
  const { modelFingerprint, layerBegin, layerEnd } = model;
  const inputs = { modelFingerprint, policy, sessionId, epoch, layerBegin, layerEnd };
  const { generation, maxPromptTokens, tenant, priority, deadlineUnixMs } = checked;
  const { onDisconnect, resumeGraceMs, keepSessionMs, keepExactKeys } = checked;
  return {
    schemaVersion: SESSION_SCHEMA_VERSION,
    ...{ sessionId, revision: 1, state: 'uploading', epoch, attempt: 0 },
    lane: [placed.lane.worker.memberId],
    decodeId: placed.lane.decode.memberId,
    turn: firstTurn(nowUnixMs),
    model: model.name,
    ...{ modelFingerprint, policy, generation },
    fingerprint: sessionFingerprint(inputs),
    ...{ receivedTokens: 0, uploadClosed: false, sealedTokens: 0, historyTokens: 0, nextToken: 0 },
    ...{ segments: [], origins: [], answers: [], turnCuts: [], dataLosses: 0 },
    maxPromptTokens,
    reservation: placed.reservation,
    ...{ tenant, priority, traceparent, deadlineUnixMs },
    ...{ onDisconnect, resumeGraceMs, keepSessionMs, keepExactKeys },
    keepUntilUnixMs: null,
    createdUnixMs: nowUnixMs,
  };
}

function firstTurn(admittedUnixMs: number): TurnRecord {
  return {
    ...{ number: 0, afterSequence: 0, beginToken: 0, endToken: null, cachedTokens: 0 },
    ...{ promptReran: false, admittedUnixMs, prefilledUnixMs: null, sparseWork: null },
  };
}
