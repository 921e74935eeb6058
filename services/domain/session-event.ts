import type { ErrorCode, ErrorDetails } from './serving-error.js';
import type { ResolvedPolicy } from './policy.js';
import type { SparseWork } from './sparse-work.js';

/** Log-probability of one prompt token under the model, natural log; rank 1 = top. */
export interface PromptLogprob {
  readonly position: number;
  readonly tokenId: number;
  readonly logprob: number;
  readonly rank: number;
}

/** Admission succeeded: memory is reserved and the policy is resolved. By the driver. */
export interface AcceptedEvent {
  readonly type: 'accepted';
  readonly model: string;
  readonly modelFingerprint: string;
  readonly policy: ResolvedPolicy;
  readonly reservedBytes: number;
  readonly reservedTokens: number;
}

/** A chunk waits on its worker's queue (sent when other work is ahead of it). By the driver. */
export interface QueuedEvent {
  readonly type: 'queued';
  readonly workerId: string;
  /** Jobs ahead on that queue. */
  readonly jobsAhead: number;
}

/** Prefill moved on. By the worker (turns: by the decode that appends them). */
export interface ProgressEvent {
  readonly type: 'progress';
  /** Fractional work inside a chunk is expressed in whole tokens. */
  readonly processedTokens: number;
  /** Null until the upload is closed. */
  readonly totalTokens: number | null;
  /** Prompt tokens that needed no prefill (prefix reuse, earlier turns). */
  readonly cachedTokens: number;
  /** Estimated milliseconds to the end of prefill; null while unknown. */
  readonly etaMs: number | null;
  readonly promptLogprobs: readonly PromptLogprob[];
}

/**
 * The session lost a process, or bytes, and goes on elsewhere: queued, progress or tokens follow. By
 * the driver, or by a decode that gives its turn back. No token is lost, doubled or changed.
 */
export interface InterruptedEvent {
  readonly type: 'interrupted';
  readonly code: ErrorCode;
  readonly message: string;
}

/** One generated token. By the decode. */
export interface TokenEvent {
  readonly type: 'token';
  /** Zero-based within the turn. Refused unless it is the next one. */
  readonly index: number;
  readonly tokenId: number;
  /** Text that became certain with this token; '' while a character or stop text is open. */
  readonly text: string;
  readonly logprob: number;
  readonly rank: number;
}

export type FinishReason = 'stop' | 'stop_text' | 'length';

/** What the run was made of; shown to every user. */
export interface TurnReport {
  readonly policy: ResolvedPolicy;
  readonly promptTokens: number;
  readonly cachedTokens: number;
  readonly completionTokens: number;
  /** From admission to the first token. */
  readonly timeToFirstTokenMs: number;
  readonly prefillMs: number;
  readonly decodeMs: number;
  /** Bytes of K and V that the session held at the end: in segments, and private to the decode. */
  readonly segmentBytes: number;
  readonly privateBytes: number;
  readonly workerIds: readonly string[];
  readonly decodeId: string;
  /** True if a second turn had to run the whole prompt again. */
  readonly promptReran: boolean;
  /** Of the chunks that ran for this turn under a sparse policy; linked ones did nothing. */
  readonly sparseWork: SparseWork | null;
}

/** The turn ended well. By the decode. */
export interface FinishedEvent {
  readonly type: 'finished';
  readonly finishReason: FinishReason;
  /** Text held back until the end. */
  readonly text: string;
  readonly report: TurnReport;
  /** Unix milliseconds until which the session is kept; null if it is released now. */
  readonly keptUntilUnixMs: number | null;
}

/** The session ended with an error. By the driver. */
export interface ErrorEvent {
  readonly type: 'error';
  readonly code: ErrorCode;
  readonly message: string;
  readonly details: ErrorDetails;
}

export type SessionEvent =
  | AcceptedEvent
  | QueuedEvent
  | ProgressEvent
  | InterruptedEvent
  | TokenEvent
  | FinishedEvent
  | ErrorEvent;

/** An event with its place in the session's stream: 1, 2, 3, ... without gaps. */
export interface SequencedEvent {
  readonly sequence: number;
  readonly event: SessionEvent;
}
