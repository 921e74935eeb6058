import type { ResolvedPolicy } from '../../domain/policy.js';
import type { GenerationOptions } from '../../domain/sampling.js';
import type { SparseWork } from '../../domain/sparse-work.js';
import type { TokenRange } from '../../domain/token-range.js';
import type { AnswerText } from './answer-text.js';

/** What the final report says about the time before decode, and how long the turn may live. */
export interface TurnContext {
  readonly policy: ResolvedPolicy;
  readonly admittedUnixMs: number;
  readonly prefilledUnixMs: number;
  /** Prompt tokens of the whole session, this turn's included. */
  readonly promptTokens: number;
  readonly cachedTokens: number;
  readonly workerIds: readonly string[];
  readonly segmentBytes: number;
  readonly promptReran: boolean;
  /** Of the chunks that ran for this turn under a sparse policy; null: none did. */
  readonly sparseWork: SparseWork | null;
  /** How long the session is kept after the turn; 0: not. */
  readonly keepSessionMs: number;
  readonly deadlineUnixMs: number | null;
  /** When an earlier attempt generated the turn's first token; null: none has. */
  readonly firstTokenUnixMs: number | null;
}

/** One turn of a session in the loop. */
export interface TurnRequest {
  /** Zero-based, as the event stream counts. */
  readonly turn: number;
  readonly generation: GenerationOptions;
  readonly context: TurnContext;
}

/** A turn as it runs. */
export interface RunningTurn extends TurnRequest {
  readonly text: AnswerText;
  /** Absolute position of the turn's first prompt token. */
  readonly beginToken: number;
  completionTokens: number;
  firstTokenUnixMs: number | null;
  /** Of performance.now(), when the last token was chosen here; null: none was. */
  lastTokenMs: number | null;
}

/** What ran in earlier attempts, and is run again: not sampled, and told to nobody. */
export interface TurnHistory {
  /** Tokens after those of the hand-off. */
  readonly tokenIds: Uint32Array;
  /** How many of the last of them are the answer of the turn that goes on. */
  readonly answeredTokens: number;
  /** Absolute position of that turn's first prompt token. */
  readonly turnBeginToken: number;
  /** Answers of turns before it, by absolute position; ascending. */
  readonly answers: readonly TokenRange[];
}
