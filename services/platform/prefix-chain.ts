import { createHash } from 'node:crypto';
import type { ResolvedPolicy } from '../domain/policy.js';
import type { ResolvedSparsePolicy } from '../domain/sparse-policy.js';
import { canonicalJson } from './fingerprint.js';

/** All that the K and V of a chunk depend on besides the tokens up to its end. */
export interface PrefixSeed {
  readonly modelFingerprint: string;
  readonly policy: ResolvedPolicy;
  /** Tenants never share: the time of a hit would tell one what another one asked. */
  readonly tenant: string;
}

/** The chain before a prompt's first chunk: 64 hex digits. */
export function prefixChainStart({ modelFingerprint, policy, tenant }: PrefixSeed): string {
  const decisive = { ...policy, sparse: decisiveThresholds(policy) };
  const fields = canonicalJson([modelFingerprint, decisive, tenant]);
  return createHash('sha256').update(fields).digest('hex');
}

/**
 * The thresholds that decide which keys a row sees. The others, the guard's among them, change no K
 * and V, and sessions that differ in them alone share their chunks.
 */
function decisiveThresholds({
  prefillPolicy,
  sparse,
}: ResolvedPolicy): Partial<ResolvedSparsePolicy> | null {
  if (sparse === null) return null;
  const { denseBelowTokens, tilesPerBlock } = sparse;
  const { tilesOverrideFile, patternsSha256, gamma, tau, minTiles } = sparse;
  switch (prefillPolicy) {
    case 'dense':
      return null;
    case 'minference':
      return { denseBelowTokens, tilesPerBlock, tilesOverrideFile, patternsSha256 };
    case 'flexprefill':
      return { denseBelowTokens, tilesPerBlock, gamma, tau, minTiles };
    case 'a-shape':
      return { denseBelowTokens, tilesPerBlock };
  }
}

/**
 * The chain after a chunk: 64 hex digits of SHA-256 over the chain before it and its token ids.
 * Equal chains mean equal tokens up to the chunk's end, and so equal K and V (cuts depend on position only).
 */
export function extendPrefixChain(chain: string, tokenIds: Uint32Array): string {
  const bytes = Buffer.allocUnsafe(tokenIds.length * 4);
  tokenIds.forEach((id, place) => bytes.writeUInt32LE(id, place * 4));
  return createHash('sha256').update(chain).update(bytes).digest('hex');
}
