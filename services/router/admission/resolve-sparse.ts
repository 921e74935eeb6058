import type { PrefillPolicy } from '../../domain/policy.js';
import { ServingError } from '../../domain/serving-error.js';
import {
  FLEX_DEFAULTS,
  MAX_TILES_PER_BLOCK,
  type ResolvedSparsePolicy,
  type WantedSparsePolicy,
} from '../../domain/sparse-policy.js';
import type { PolicyDefaults } from './policy-defaults.js';

/**
 * Every threshold of sparse prefill.
 * @returns null for dense prefill
 * @throws ServingError BAD_REQUEST naming the field, also for thresholds of a dense session
 */
export function resolveSparse(
  prefillPolicy: PrefillPolicy,
  wanted: WantedSparsePolicy | null,
  defaults: PolicyDefaults,
): ResolvedSparsePolicy | null {
  if (wanted !== null) checkSparse(wanted);
  if (prefillPolicy === 'dense') {
    if (wanted === null) return null;
    throw refused(
      'sparse_prefill',
      'is for sparse prefill, and the prefill policy is dense: set prefill_policy, or leave it out',
    );
  }
  const { tau, minTiles } = FLEX_DEFAULTS;
  const gamma = wanted?.gamma ?? null;
  if (gamma !== null && prefillPolicy !== 'flexprefill') {
    throw refused(
      'sparse_prefill.gamma',
      `is for flexprefill, and does nothing with ${prefillPolicy}: leave it out`,
    );
  }
  return {
    denseBelowTokens: wanted?.denseBelowTokens ?? defaults.denseBelowTokens,
    tilesPerBlock: wanted?.tilesPerBlock ?? defaults.tilesPerBlock,
    tilesOverrideFile: (wanted?.tilesPerBlock ?? null) !== null,
    patternsSha256: prefillPolicy === 'minference' ? defaults.patternsSha256 : '',
    gamma: gamma === null ? FLEX_DEFAULTS.gamma : asWritten(gamma),
    ...{ tau, minTiles },
    guardInterval: defaults.guardInterval,
  };
}

/** Thresholds were fixed with the session's first turn. @throws ServingError BAD_REQUEST */
export function refuseSparseOfTurn(wanted: WantedSparsePolicy | null): void {
  if (wanted === null) return;
  throw refused(
    'sparse_prefill',
    "must be unset when a session is continued: it keeps its first turn's thresholds",
  );
}

function checkSparse({ tilesPerBlock, gamma }: WantedSparsePolicy): void {
  if (tilesPerBlock !== null && !(tilesPerBlock >= 1 && tilesPerBlock <= MAX_TILES_PER_BLOCK)) {
    const most = String(MAX_TILES_PER_BLOCK);
    const got = String(tilesPerBlock);
    throw refused('sparse_prefill.tiles_per_block', `must be from 1 to ${most}, got ${got}`);
  }
  if (gamma !== null && !(gamma > 0 && gamma <= 1)) {
    const got = String(gamma);
    throw refused('sparse_prefill.gamma', `must be above 0 and at most 1, got ${got}`);
  }
}

/** A 32-bit float as it was written: 0.95, not 0.949999988; equal thresholds share prefixes. */
function asWritten(float: number): number {
  return Number(float.toPrecision(6));
}

function refused(field: string, problem: string): ServingError {
  return new ServingError('BAD_REQUEST', `${field} ${problem}`, {
    fieldViolations: [{ field, description: problem }],
  });
}
