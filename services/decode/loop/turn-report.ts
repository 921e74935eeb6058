import type { TurnReport } from '../../domain/session-event.js';
import type { RunningTurn } from './turn.js';

/** What the run was made of, at the time its last token was chosen. */
export function turnReport(
  turn: RunningTurn,
  at: { readonly nowUnixMs: number; readonly privateBytes: number; readonly decodeId: string },
): TurnReport {
  const { context } = turn;
  const firstTokenUnixMs = turn.firstTokenUnixMs ?? at.nowUnixMs;
  return {
    policy: context.policy,
    promptTokens: context.promptTokens,
    cachedTokens: context.cachedTokens,
    completionTokens: turn.completionTokens,
    timeToFirstTokenMs: Math.max(0, firstTokenUnixMs - context.admittedUnixMs),
    prefillMs: Math.max(0, context.prefilledUnixMs - context.admittedUnixMs),
    decodeMs: Math.max(0, at.nowUnixMs - firstTokenUnixMs),
    segmentBytes: context.segmentBytes,
    privateBytes: at.privateBytes,
    workerIds: context.workerIds,
    decodeId: at.decodeId,
    promptReran: context.promptReran,
    sparseWork: context.sparseWork,
  };
}
