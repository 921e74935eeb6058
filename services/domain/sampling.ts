import type { TokenRange } from './token-range.js';

/** How tokens are chosen. */
export interface Sampling {
  /** >= 0; 0 is greedy. */
  readonly temperature: number;
  /** 0: off. */
  readonly topK: number;
  /** (0, 1]. */
  readonly topP: number;
  /** Unsigned 64-bit as a decimal string (it must survive JSON). */
  readonly seed: string;
}

/** When generation stops. */
export interface Stopping {
  readonly maxNewTokens: number;
  /** Text that ends the answer; it is not part of it. */
  readonly stopTexts: readonly string[];
  /** Do not stop at the model's end-of-sequence ids. */
  readonly ignoreEos: boolean;
}

/** What a turn asks of decode; what the record keeps of the header besides the session's life. */
export interface GenerationOptions {
  readonly sampling: Sampling;
  readonly stopping: Stopping;
  /** Teacher forcing: generated token i is forcedTokenIds[i] while there is one. */
  readonly forcedTokenIds: readonly number[];
  /** Ascending, disjoint ranges of absolute positions whose log-probability is wanted. */
  readonly promptLogprobs: readonly TokenRange[];
}
