import type { ResolvedPolicy } from './policy.js';
import type { GenerationOptions } from './sampling.js';
import type { SparseWork } from './sparse-work.js';
import type { TokenRange } from './token-range.js';

/** Raised with every change of the form below: a router or worker of another version refuses it. */
export const SESSION_SCHEMA_VERSION = 4;
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

/**
 * Segments of this session that another session or an earlier plan made: linked, never copied. They
 * carry the fingerprint of their maker.
 */
export interface SegmentOrigin extends TokenRange {
  readonly fingerprint: string;
}

/** One prompt and its answer: the first turn's prompt is the session's, later ones continue it. */
export interface TurnRecord {
  /** Zero-based. */
  readonly number: number;
  /** The turn's events come after this one. */
  readonly afterSequence: number;
  /** Absolute position of the turn's first prompt token. */
  readonly beginToken: number;
  /** One past its last prompt token: where its answer begins; null while its upload is open. */
  readonly endToken: number | null;
  /** Of the prompt up to endToken, not prefilled for this turn. */
  readonly cachedTokens: number;
  /** True if a lane ran what an earlier turn had run already. */
  readonly promptReran: boolean;
  readonly admittedUnixMs: number;
  /** Null until the hand-off is made (the first turn), or for a turn that decode appends. */
  readonly prefilledUnixMs: number | null;
  /** Of the chunks that ran for this turn under a sparse policy; null: none did. */
  readonly sparseWork: SparseWork | null;
}

/** Shares of the workers' time: a high prompt pays a quarter for its tokens, a low one four times. */
export type Priority = 'low' | 'normal' | 'high';

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
  /**
   * Times that a decode took the session. Events of an older attempt are refused, so a decode that
   * was given up and wakes again can do no harm. 0: none took it yet.
   */
  readonly attempt: number;
  /** Worker ids, one a stage. */
  readonly lane: readonly string[];
  readonly decodeId: string | null;
  /** The turn that runs or ran last. */
  readonly turn: TurnRecord;

  readonly model: string;
  readonly modelFingerprint: string;
  readonly policy: ResolvedPolicy;
  /** Of (model, weights, dtype, policy, session, epoch, layer range): see platform/fingerprint.ts. */
  readonly fingerprint: string;
  readonly generation: GenerationOptions;

  /** Tokens that a lane is to run: received so far, and all once the upload is closed. */
  readonly receivedTokens: number;
  /** From then on the ids of all of them are in the token id store. */
  readonly uploadClosed: boolean;
  /** Tokens that the last seal covers; 0 before it. Later ones are private to the decode. */
  readonly sealedTokens: number;
  /** Tokens of ended turns, answers included: their ids are in the token id store. */
  readonly historyTokens: number;
  /** Of them, those that were generated, turn by turn: run again one by one they get their bits again. */
  readonly answers: readonly TokenRange[];
  /** Where tails of earlier turns began that a lane has run, ascending: see nextChunk(). */
  readonly turnCuts: readonly number[];
  /** First position without a finished segment. */
  readonly nextToken: number;
  readonly segments: readonly SegmentRecord[];
  readonly origins: readonly SegmentOrigin[];
  /** Times that bytes of this session did not match: the second ends it. */
  readonly dataLosses: number;
  readonly maxPromptTokens: number;
  readonly reservation: Reservation | null;

  readonly tenant: string;
  readonly priority: Priority;
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
