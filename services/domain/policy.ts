import type { ResolvedSparsePolicy } from './sparse-policy.js';

/** How prompts are prefilled. */
export type PrefillPolicy = 'dense' | 'minference' | 'flexprefill';
/** What decode keeps of a prompt. Only `full` is built; the others are refused at admission. */
export type CachePolicy = 'full' | 'shadowkv' | 'locret';

/** Policies with every threshold resolved at admission; part of the fingerprint. */
export interface ResolvedPolicy {
  readonly prefillPolicy: PrefillPolicy;
  readonly cachePolicy: CachePolicy;
  /** Storage and compute dtype of the stage engines. */
  readonly dtype: 'bf16' | 'fp32';
  /** Name of the cut rule that the chunks follow. */
  readonly cutRule: 'cpu' | 'gpu';
  /** Null for dense prefill. */
  readonly sparse: ResolvedSparsePolicy | null;
}
