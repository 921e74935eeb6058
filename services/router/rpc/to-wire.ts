import type { Accepted } from '../../../proto/gen/longshadow/router/v1/Accepted.js';
import type { Finished } from '../../../proto/gen/longshadow/router/v1/Finished.js';
import type { GenerateResponse } from '../../../proto/gen/longshadow/router/v1/GenerateResponse.js';
import type { ErrorEvent as WireErrorEvent } from '../../../proto/gen/longshadow/router/v1/ErrorEvent.js';
import type { Progress } from '../../../proto/gen/longshadow/router/v1/Progress.js';
import type { PromptLogprob as WirePromptLogprob } from '../../../proto/gen/longshadow/router/v1/PromptLogprob.js';
import type { ResumeResponse } from '../../../proto/gen/longshadow/router/v1/ResumeResponse.js';
import type { Token } from '../../../proto/gen/longshadow/router/v1/Token.js';
import type { CachePolicy, PrefillPolicy, ResolvedPolicy } from '../../domain/policy.js';
import { sparseReportField, toWireThresholds } from './sparse-to-wire.js';
import type {
  ErrorEvent,
  FinishedEvent,
  FinishReason,
  ProgressEvent,
  PromptLogprob,
  SequencedEvent,
  TokenEvent,
} from '../../domain/session-event.js';

export const PREFILL_POLICY = {
  dense: 'PREFILL_POLICY_DENSE',
  minference: 'PREFILL_POLICY_MINFERENCE',
  flexprefill: 'PREFILL_POLICY_FLEXPREFILL',
  'a-shape': 'PREFILL_POLICY_A_SHAPE',
} as const satisfies Record<PrefillPolicy, string>;

export const CACHE_POLICY = {
  full: 'CACHE_POLICY_FULL',
  shadowkv: 'CACHE_POLICY_SHADOWKV',
  locret: 'CACHE_POLICY_LOCRET',
} as const satisfies Record<CachePolicy, string>;

const FINISH_REASON = {
  stop: 'FINISH_REASON_STOP',
  stop_text: 'FINISH_REASON_STOP_TEXT',
  length: 'FINISH_REASON_LENGTH',
} as const satisfies Record<FinishReason, string>;

/** One event of a session as Generate and Resume send it. */
export function toWireEvent(
  sessionId: string,
  { sequence, event }: SequencedEvent,
): GenerateResponse & ResumeResponse {
  const response = { sessionId, sequence };
  switch (event.type) {
    case 'accepted': {
      const { model, modelFingerprint, reservedBytes, reservedTokens } = event;
      const prefillPolicy = PREFILL_POLICY[event.policy.prefillPolicy];
      const cachePolicy = CACHE_POLICY[event.policy.cachePolicy];
      return {
        ...response,
        accepted: {
          model,
          modelFingerprint,
          prefillPolicy,
          cachePolicy,
          reservedBytes,
          reservedTokens,
          ...sparseField(event.policy),
        },
      };
    }
    case 'queued':
      return { ...response, queued: { workerId: event.workerId, jobsAhead: event.jobsAhead } };
    case 'progress':
      return { ...response, progress: toWireProgress(event) };
    case 'interrupted':
      return { ...response, interrupted: { code: event.code, message: event.message } };
    case 'token':
      return { ...response, token: toWireToken(event) };
    case 'finished':
      return { ...response, finished: toWireFinished(event) };
    case 'error':
      return { ...response, error: toWireError(event) };
  }
}

function sparseField({ sparse }: ResolvedPolicy): Pick<Accepted, 'sparsePrefill'> {
  return sparse === null ? {} : { sparsePrefill: toWireThresholds(sparse) };
}

export function toWireToken({ index, tokenId, text, logprob, rank }: TokenEvent): Token {
  return { index, tokenId, text, logprob, rank };
}

export function toWireLogprob({
  position,
  tokenId,
  logprob,
  rank,
}: PromptLogprob): WirePromptLogprob {
  return { position, tokenId, logprob, rank };
}

export function toWireFinished(event: FinishedEvent): Finished {
  const { report, keptUntilUnixMs } = event;
  return {
    finishReason: FINISH_REASON[event.finishReason],
    text: event.text,
    usage: {
      promptTokens: report.promptTokens,
      cachedTokens: report.cachedTokens,
      completionTokens: report.completionTokens,
    },
    report: {
      prefillPolicy: PREFILL_POLICY[report.policy.prefillPolicy],
      cachePolicy: CACHE_POLICY[report.policy.cachePolicy],
      timeToFirstTokenMs: Math.round(report.timeToFirstTokenMs),
      prefillMs: Math.round(report.prefillMs),
      decodeMs: Math.round(report.decodeMs),
      segmentBytes: report.segmentBytes,
      privateBytes: report.privateBytes,
      workerIds: [...report.workerIds],
      decodeId: report.decodeId,
      promptReran: report.promptReran,
      ...sparseReportField(report),
    },
    ...(keptUntilUnixMs === null ? {} : { keptUntilUnixMs: Math.round(keptUntilUnixMs) }),
  };
}

function toWireProgress(event: ProgressEvent): Progress {
  const { processedTokens, totalTokens, cachedTokens, etaMs, promptLogprobs } = event;
  return {
    processedTokens,
    cachedTokens,
    promptLogprobs: promptLogprobs.map(toWireLogprob),
    ...(totalTokens === null ? {} : { totalTokens }),
    ...(etaMs === null ? {} : { etaMs: Math.round(etaMs) }),
  };
}

function toWireError({ code, message, details }: ErrorEvent): WireErrorEvent {
  const { retryAfterMs } = details;
  return { code, message, ...(retryAfterMs === undefined ? {} : { retryAfterMs }) };
}
