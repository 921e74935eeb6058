import type { CachePolicy, PrefillPolicy, ResolvedPolicy } from '../../domain/policy.js';
import { ServingError } from '../../domain/serving-error.js';
import type { ServedModel } from './served-model.js';

/** Policies that this version can run. */
export const PREFILL_POLICIES: readonly PrefillPolicy[] = ['dense'];
export const CACHE_POLICIES: readonly CachePolicy[] = ['full'];

/**
 * Fixes every threshold of a session before any work; the result is part of its fingerprint.
 * @throws ServingError POLICY_NOT_AVAILABLE naming what is
 */
export function resolvePolicy(
  wanted: {
    readonly prefillPolicy: PrefillPolicy | null;
    readonly cachePolicy: CachePolicy | null;
  },
  model: ServedModel,
): ResolvedPolicy {
  return {
    prefillPolicy: available('prefill_policy', wanted.prefillPolicy ?? 'dense', PREFILL_POLICIES),
    cachePolicy: available('cache_policy', wanted.cachePolicy ?? 'full', CACHE_POLICIES),
    dtype: model.dtype,
    cutRule: model.cutRule,
    sparse: null,
  };
}

function available<Policy extends string>(
  field: string,
  wanted: Policy,
  offered: readonly Policy[],
): Policy {
  if (offered.includes(wanted)) return wanted;
  throw new ServingError(
    'POLICY_NOT_AVAILABLE',
    `${field} ${wanted} is not available here; available: ${offered.join(', ')}`,
    { fieldViolations: [{ field, description: `one of ${offered.join(', ')}` }] },
  );
}
