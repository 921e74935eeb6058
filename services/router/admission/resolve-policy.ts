import {
  type CachePolicy,
  PREFILL_POLICY_NAMES,
  type PrefillPolicy,
  type ResolvedPolicy,
} from '../../domain/policy.js';
import type { WantedSparsePolicy } from '../../domain/sparse-policy.js';
import { ServingError } from '../../domain/serving-error.js';
import type { PolicyDefaults } from './policy-defaults.js';
import { resolveSparse } from './resolve-sparse.js';
import type { ServedModel } from './served-model.js';

/** Policies that this version can run. */
export const PREFILL_POLICIES: readonly PrefillPolicy[] = PREFILL_POLICY_NAMES;
export const CACHE_POLICIES: readonly CachePolicy[] = ['full'];

/**
 * Fixes every threshold of a session before any work; the result is part of its fingerprint.
 * @throws ServingError POLICY_NOT_AVAILABLE naming what is; BAD_REQUEST for a threshold out of range
 */
export function resolvePolicy(
  wanted: {
    readonly prefillPolicy: PrefillPolicy | null;
    readonly cachePolicy: CachePolicy | null;
    readonly sparse: WantedSparsePolicy | null;
  },
  model: ServedModel,
  defaults: PolicyDefaults,
): ResolvedPolicy {
  const named = wanted.prefillPolicy ?? defaults.prefillPolicy;
  const prefillPolicy = available('prefill_policy', named, PREFILL_POLICIES);
  return {
    prefillPolicy,
    cachePolicy: available('cache_policy', wanted.cachePolicy ?? 'full', CACHE_POLICIES),
    dtype: model.dtype,
    cutRule: model.cutRule,
    sparse: resolveSparse(prefillPolicy, wanted.sparse, defaults),
  };
}

/**
 * A session keeps the policies of its first turn.
 * @throws ServingError BAD_REQUEST naming the field that says otherwise
 */
export function refuseOtherPolicies(
  wanted: {
    readonly prefillPolicy: PrefillPolicy | null;
    readonly cachePolicy: CachePolicy | null;
  },
  { prefillPolicy, cachePolicy }: ResolvedPolicy,
): void {
  const fields = [
    ['prefill_policy', wanted.prefillPolicy, prefillPolicy],
    ['cache_policy', wanted.cachePolicy, cachePolicy],
  ] as const;
  for (const [field, asked, kept] of fields) {
    if (asked === null || asked === kept) continue;
    throw new ServingError(
      'BAD_REQUEST',
      `${field} is ${asked}, but the session that is continued has ${kept}: leave it out`,
      { fieldViolations: [{ field, description: `${kept}, or unset` }] },
    );
  }
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
