import type { PrefillPolicy } from '../../domain/policy.js';

/** What a model's sessions get where their header does not say. */
export interface PolicyDefaults {
  readonly prefillPolicy: PrefillPolicy;
  /** Most key tiles of a query block, where the pattern file does not say. */
  readonly tilesPerBlock: number;
  readonly denseBelowTokens: number;
  /** One of so many (chunk, layer) pairs is guarded; 0: none. */
  readonly guardInterval: number;
  /** Of the model's pattern file, or of none. */
  readonly patternsSha256: string;
}
