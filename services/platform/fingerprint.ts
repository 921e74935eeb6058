import { createHash } from 'node:crypto';
import type { ResolvedPolicy } from '../domain/policy.js';

/** All that a session's bytes depend on. The policy carries dtype and every resolved threshold. */
export interface FingerprintInputs {
  /** Over the model's configuration and weights. */
  readonly modelFingerprint: string;
  readonly policy: ResolvedPolicy;
  readonly sessionId: string;
  readonly epoch: number;
  readonly layerBegin: number;
  readonly layerEnd: number;
}

/**
 * The fingerprint that every block of a session's bytes carries: 32 hex digits, the first half of
 * SHA-256 over canonical JSON (keys sorted), so field order and added-then-removed fields of an
 * object cannot change it.
 */
export function sessionFingerprint(inputs: FingerprintInputs): string {
  return createHash('sha256').update(canonicalJson(inputs)).digest('hex').slice(0, 32);
}

/** JSON with sorted keys and no spaces. Fields that are undefined are left out. */
export function canonicalJson(value: unknown): string {
  return JSON.stringify(value, (_key, inner: unknown) => {
    if (typeof inner !== 'object' || inner === null || Array.isArray(inner)) return inner;
    const entries = Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
    return Object.fromEntries(entries);
  });
}
