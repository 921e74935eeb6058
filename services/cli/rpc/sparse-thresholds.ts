import type { ResolvedSparsePrefill__Output } from '../../../proto/gen/longshadow/router/v1/ResolvedSparsePrefill.js';

/** Sparse prefill as the router resolved it. */
export interface SparseThresholds {
  readonly tilesPerBlock: number;
  /** The request named it: it holds for every head, whatever the pattern file says. */
  readonly tilesOverrideFile: boolean;
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
  return { ...wire, gamma: asWritten(wire.gamma), tau: asWritten(wire.tau) };
}

/** A 32-bit float in decimal, as 0.95 and not 0.949999988. */
function asWritten(float: number): number {
  return Number(float.toPrecision(6));
}
