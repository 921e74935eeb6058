import type { FinishReason, PromptLogprob } from '../../domain/session-event.js';
import type { GenerateResponse__Output } from '../../../proto/gen/longshadow/router/v1/GenerateResponse.js';
import type { ResumeResponse__Output } from '../../../proto/gen/longshadow/router/v1/ResumeResponse.js';
import type { Finished__Output } from '../../../proto/gen/longshadow/router/v1/Finished.js';
import type { Progress__Output } from '../../../proto/gen/longshadow/router/v1/Progress.js';
import type { PromptLogprob__Output } from '../../../proto/gen/longshadow/router/v1/PromptLogprob.js';
import type { FinishReason__Output } from '../../../proto/gen/longshadow/router/v1/FinishReason.js';

import { type SparsePrefillReport, toSparseReport } from './sparse-report.js';
import { type SparseThresholds, toSparseThresholds } from './sparse-thresholds.js';

/** How a turn ended and what it was made of. */
export interface AnswerReport {
  readonly finishReason: FinishReason;
  readonly promptTokens: number;
  readonly cachedTokens: number;
  readonly completionTokens: number;
  readonly timeToFirstTokenMs: number;
  readonly prefillMs: number;
  readonly decodeMs: number;
  readonly segmentBytes: number;
  readonly privateBytes: number;
  readonly prefillPolicy: string;
  readonly cachePolicy: string;
  readonly workerIds: readonly string[];
  readonly decodeId: string;
  readonly promptReran: boolean;
  readonly keptUntilUnixMs: number | null;
  /** Null for dense prefill. */
  readonly sparsePrefill: SparsePrefillReport | null;
}

/** What a client of Generate or Resume sees, in its own words. */
export type AnswerEvent = { readonly sessionId: string; readonly sequence: number } & (
  | {
      readonly type: 'accepted';
      readonly model: string;
      readonly reservedBytes: number;
      /** Null for dense prefill. */
      readonly sparsePrefill: SparseThresholds | null;
    }
  | { readonly type: 'queued'; readonly workerId: string; readonly jobsAhead: number }
  | {
      readonly type: 'progress';
      readonly processedTokens: number;
      readonly totalTokens: number | null;
      readonly cachedTokens: number;
      readonly etaMs: number | null;
      readonly promptLogprobs: readonly PromptLogprob[];
    }
  /** The session lost something and goes on elsewhere. */
  | { readonly type: 'interrupted'; readonly code: string; readonly message: string }
  | {
      readonly type: 'token';
      readonly index: number;
      readonly tokenId: number;
      readonly text: string;
      readonly logprob: number;
      readonly rank: number;
    }
  | { readonly type: 'finished'; readonly text: string; readonly report: AnswerReport }
  /** The call's own status, right after it, carries the same error. */
  | { readonly type: 'error'; readonly code: string; readonly message: string }
);

/** Converts one wire event; null for a kind that this client does not know. */
export function toAnswerEvent(
  response: GenerateResponse__Output | ResumeResponse__Output,
): AnswerEvent | null {
  const place = { sessionId: response.sessionId, sequence: Number(response.sequence) };
  if (response.accepted) {
    const { model, reservedBytes } = response.accepted;
    const sparsePrefill = toSparseThresholds(response.accepted.sparsePrefill);
    return {
      ...place,
      type: 'accepted',
      model,
      reservedBytes: Number(reservedBytes),
      sparsePrefill,
    };
  }
  if (response.queued) return { ...place, type: 'queued', ...response.queued };
  if (response.progress) return { ...place, type: 'progress', ...toProgress(response.progress) };
  if (response.interrupted) {
    const { code, message } = response.interrupted;
    return { ...place, type: 'interrupted', code, message };
  }
  if (response.token) return { ...place, type: 'token', ...response.token };
  if (response.finished) {
    const { text } = response.finished;
    return { ...place, type: 'finished', text, report: toReport(response.finished) };
  }
  if (response.error) {
    const { code, message } = response.error;
    return { ...place, type: 'error', code, message };
  }
  return null;
}

export function toReport(finished: Finished__Output): AnswerReport {
  const { usage, report } = finished;
  return {
    finishReason: toFinishReason(finished.finishReason),
    promptTokens: Number(usage?.promptTokens ?? 0),
    cachedTokens: Number(usage?.cachedTokens ?? 0),
    completionTokens: Number(usage?.completionTokens ?? 0),
    timeToFirstTokenMs: Number(report?.timeToFirstTokenMs ?? 0),
    prefillMs: Number(report?.prefillMs ?? 0),
    decodeMs: Number(report?.decodeMs ?? 0),
    segmentBytes: Number(report?.segmentBytes ?? 0),
    privateBytes: Number(report?.privateBytes ?? 0),
    prefillPolicy: enumWord(report?.prefillPolicy, 'PREFILL_POLICY_'),
    cachePolicy: enumWord(report?.cachePolicy, 'CACHE_POLICY_'),
    workerIds: report?.workerIds ?? [],
    decodeId: report?.decodeId ?? '',
    promptReran: report?.promptReran ?? false,
    keptUntilUnixMs: optionalNumber(finished.keptUntilUnixMs),
    sparsePrefill: toSparseReport(report?.sparsePrefill),
  };
}

export function toPromptLogprob(wire: PromptLogprob__Output): PromptLogprob {
  return { ...wire, position: Number(wire.position) };
}

function toProgress(
  progress: Progress__Output,
): Omit<Extract<AnswerEvent, { type: 'progress' }>, 'sessionId' | 'sequence' | 'type'> {
  return {
    processedTokens: Number(progress.processedTokens),
    totalTokens: optionalNumber(progress.totalTokens),
    cachedTokens: Number(progress.cachedTokens),
    etaMs: optionalNumber(progress.etaMs),
    promptLogprobs: progress.promptLogprobs.map(toPromptLogprob),
  };
}

function toFinishReason(wire: FinishReason__Output): FinishReason {
  switch (wire) {
    case 'FINISH_REASON_STOP':
      return 'stop';
    case 'FINISH_REASON_STOP_TEXT':
      return 'stop_text';
    default:
      return 'length';
  }
}

/** `PREFILL_POLICY_A_SHAPE` as `a-shape`. */
function enumWord(value: string | undefined, prefix: string): string {
  return (value ?? '').replace(prefix, '').toLowerCase().replaceAll('_', '-');
}

/** An unset optional 64-bit field is absent or null. */
function optionalNumber(value: string | null | undefined): number | null {
  return value === undefined || value === null ? null : Number(value);
}
