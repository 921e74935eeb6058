import type { SparseWork } from './sparse-work.js';
import type { TokenRange } from './token-range.js';

/** Raised with every change of a job's form or its result's. */
export const PREFILL_JOB_SCHEMA_VERSION = 4;

/**
 * A unit of work on a worker's queue. Job id: prefillJobId(). `prefill` runs one prompt chunk,
 * and makes the hand-off after the prompt's last one; `seal` (beginToken = endToken = prompt length)
 * makes it alone, where no chunk is left to run.
 */
export interface PrefillJob extends TokenRange {
  readonly schemaVersion: typeof PREFILL_JOB_SCHEMA_VERSION;
  readonly kind: 'prefill' | 'seal';
  readonly sessionId: string;
  readonly epoch: number;
  readonly stage: number;
  readonly modelFingerprint: string;
  readonly fingerprint: string;
  /** The prompt's token after the chunk; null at the prompt's end. */
  readonly nextTokenId: number | null;
  /** Positions whose log-probability is wanted, clipped to (beginToken, endToken]. */
  readonly promptLogprobs: readonly TokenRange[];
  /** Tokens at the prompt's beginning that were not prefilled for it: linked segments. */
  readonly cachedTokens: number;
  /** Prompt length; null while the upload is open. */
  readonly totalTokens: number | null;
  readonly deadlineUnixMs: number | null;
  readonly traceparent: string | null;
}

/** What a finished job returns. */
export interface PrefillJobResult extends TokenRange {
  /** Bytes of the chunk's two segment files; of the hand-off for a seal. */
  readonly bytes: number;
  readonly engineMicros: number;
  /**
   * What the chunk did under a sparse policy. Null for dense sessions and seals, and if a life of the
   * worker that is over ran it.
   */
  readonly sparse: SparseWork | null;
  /** True if the worker had finished it before (retry, restart). */
  readonly alreadyDone: boolean;
  /** True if the session is sealed now: after a seal, and after the prompt's last chunk. */
  readonly sealed: boolean;
}

/** `<session>-<epoch>-<beginToken>-<stage>`: BullMQ allows no colons. */
export function prefillJobId(
  job: Pick<PrefillJob, 'sessionId' | 'epoch' | 'beginToken' | 'stage'>,
): string {
  return `${job.sessionId}-${String(job.epoch)}-${String(job.beginToken)}-${String(job.stage)}`;
}

/** BullMQ queue of one worker. */
export function workerQueueName(workerId: string): string {
  return `longshadow-prefill-${workerId}`;
}
