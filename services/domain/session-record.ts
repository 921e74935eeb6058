import type { ResolvedPolicy } from './policy.js';
import type { GenerationOptions } from './sampling.js';
import type { TokenRange } from './token-range.js';

export const SESSION_SCHEMA_VERSION = 1;
/** 128 random bits, made by the router; checked before any path or key is made from it. */
export const SESSION_ID_PATTERN = /^[0-9a-f]{32}$/;

/**
 * uploading:  parts still arrive; chunks already run
 * prefilling: the upload is closed; chunks run
 * sealing:    the last chunk is done; the hand-off is being made and taken
 * decoding:   a decode streams tokens
 * kept:       idle, KV held until keepUntilUnixMs
 * finished, failed, cancelled: ended; KV is released or being released
 */
export type SessionState =
  | 'uploading'
  | 'prefilling'
  | 'sealing'
  | 'decoding'
  | 'kept'
  | 'finished'
  | 'failed'
  | 'cancelled';

export const ENDED_STATES: ReadonlySet<SessionState> = new Set(['finished', 'failed', 'cancelled']);

/** K and V of one prompt chunk at one stage, as the manifest lists them. */
export interface SegmentRecord extends TokenRange {
  readonly stage: number;
  readonly bytes: number;
}

/** Host memory promised to a session at admission. */
export interface Reservation {
  /** The value store's host (fleet member's storeId). */
  readonly storeId: string;
  readonly bytes: number;
  /** Prompt tokens plus new tokens that the bytes are for. */
  readonly tokens: number;
}

/**
 * A session as Redis holds it: one JSON value, changed only by compare-and-set on `revision`
 * under the driver's lease.
 */
export interface SessionRecord {
  readonly schemaVersion: typeof SESSION_SCHEMA_VERSION;
  readonly sessionId: string;
  /** Raised by every compare-and-set. */
  readonly revision: number;
  readonly state: SessionState;
  /** Number of the plan; what carries an older one is refused. Starts at 1. */
  readonly epoch: number;
  /** Worker ids, one a stage. */
  readonly lane: readonly string[];
  readonly decodeId: string | null;
  /** Zero-based number of the turn that runs or ran last. */
  readonly turn: number;

  readonly model: string;
  readonly modelFingerprint: string;
  readonly policy: ResolvedPolicy;
  /** Of (model, weights, dtype, policy, session, epoch, layer range): see platform/fingerprint.ts. */
  readonly fingerprint: string;
  readonly generation: GenerationOptions;

  /** Tokens received so far, then the prompt's length once the upload is closed. */
  readonly receivedTokens: number;
  readonly uploadClosed: boolean;
  /** First position without a finished segment. */
  readonly nextToken: number;
  readonly segments: readonly SegmentRecord[];
  readonly maxPromptTokens: number;
  readonly reservation: Reservation | null;

  readonly tenant: string;
  readonly traceparent: string | null;
  readonly deadlineUnixMs: number | null;
  readonly onDisconnect: 'cancel' | 'keep';
  readonly resumeGraceMs: number;
  readonly keepSessionMs: number;
  readonly keepExactKeys: boolean;
  /** When a kept session is released; null unless kept. */
  readonly keepUntilUnixMs: number | null;
  readonly createdUnixMs: number;
}
