import type { ResolvedPolicy } from '../../domain/policy.js';
import type { GenerationOptions } from '../../domain/sampling.js';

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
  /** How long the session is kept after the turn; 0: not. */
  readonly keepSessionMs: number;
  readonly deadlineUnixMs: number | null;
}

/** One turn of a session in the loop. */
export interface TurnRequest {
  readonly generation: GenerationOptions;
  readonly context: TurnContext;
}
