import type { ResolvedSparsePolicy } from './sparse-policy.js';

export const PREFILL_POLICY_NAMES = ['dense', 'minference', 'flexprefill', 'a-shape'] as const;
export const CACHE_POLICY_NAMES = ['full', 'shadowkv', 'locret'] as const;

/** How prompts are prefilled. `a-shape` is the control of evaluations: it looks at nothing. */
export type PrefillPolicy = (typeof PREFILL_POLICY_NAMES)[number];
/** What decode keeps of a prompt. Only `full` is built; the others are refused at admission. */
export type CachePolicy = (typeof CACHE_POLICY_NAMES)[number];

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
