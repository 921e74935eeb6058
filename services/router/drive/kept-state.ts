/** What a session that waits for its next turn remembers of the last one. */
export interface KeptState {
  /** The last turn's finished event; the next turn's events follow it. */
  readonly lastSequence: number;
  /** Prompt and generated tokens in the cache. */
  readonly tokens: number;
  /** What the model generated last: an end-of-sequence token stays in the cache. */
  readonly lastTokenId: number | null;
}
