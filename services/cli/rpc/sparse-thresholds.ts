import type { ResolvedSparsePrefill__Output } from '../../../proto/gen/longshadow/router/v1/ResolvedSparsePrefill.js';

/** Sparse prefill as the router resolved it. */
export interface SparseThresholds {
  readonly tilesPerBlock: number;
  readonly denseBelowTokens: number;
  /** '' for policies that read no pattern file. */
  readonly patternsSha256: string;
  /* FlexPrefill's. */
  readonly gamma: number;
  readonly tau: number;
  readonly minTiles: number;
}

/** Null for dense prefill. */
export function toSparseThresholds(
  wire: ResolvedSparsePrefill__Output | null | undefined,
): SparseThresholds | null {
  if (!wire) return null;
  const { tilesPerBlock, denseBelowTokens, patternsSha256, minTiles } = wire;
  const [gamma, tau] = [asWritten(wire.gamma), asWritten(wire.tau)];
  return { tilesPerBlock, denseBelowTokens, patternsSha256, gamma, tau, minTiles };
}

/** A 32-bit float in decimal, as 0.95 and not 0.949999988. */
function asWritten(float: number): number {
  return Number(float.toPrecision(6));
}
