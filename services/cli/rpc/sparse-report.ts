import type { SparseReport__Output } from '../../../proto/gen/longshadow/router/v1/SparseReport.js';

/** What sparse prefill did in a turn's prompt chunks. */
export interface SparsePrefillReport {
  readonly tilesPerBlock: number;
  readonly denseBelowTokens: number;
  /** '' for policies that read no pattern file. */
  readonly patternsSha256: string;
  /** Prompt tokens of chunks that attended sparsely, that were too early for it, and that were not run. */
  readonly sparseTokens: number;
  readonly denseTokens: number;
  readonly reusedTokens: number;
  /** Share of dense attention that was done, over all that ran, dense rows included. */
  readonly density: number;
  /** The same by layer of the model. */
  readonly layers: readonly LayerDensity[];
  /** The same by the heads' pattern; `dense` is all that was dense. */
  readonly densities: readonly {
    readonly pattern: string;
    readonly density: number;
    readonly attendedKeys: number;
    readonly causalKeys: number;
  }[];
  /** Share of sparse attention's time that choosing keys took. */
  readonly selectionShare: number;
  readonly estimateMicros: number;
  readonly indexMicros: number;
  readonly attentionMicros: number;
  /** Query blocks that were computed densely too, and their relative L2 errors. */
  readonly guardBlocks: number;
  readonly guardErrorMean: number;
  readonly guardErrorMax: number;
}

/** What a layer of the model attended to, as keys of blocks of 64 queries. */
export interface LayerDensity {
  readonly attendedKeys: number;
  readonly causalKeys: number;
  /** attendedKeys / causalKeys. */
  readonly density: number;
}

/** Null for dense prefill. */
export function toSparseReport(
  wire: SparseReport__Output | null | undefined,
): SparsePrefillReport | null {
  if (!wire) return null;
  const { thresholds, densities } = wire;
  const { density, selectionShare, guardErrorMean, guardErrorMax } = wire;
  return {
    tilesPerBlock: thresholds?.tilesPerBlock ?? 0,
    denseBelowTokens: thresholds?.denseBelowTokens ?? 0,
    patternsSha256: thresholds?.patternsSha256 ?? '',
    sparseTokens: Number(wire.sparseTokens),
    denseTokens: Number(wire.denseTokens),
    reusedTokens: Number(wire.reusedTokens),
    densities: densities.map(({ pattern, density, attendedKeys, causalKeys }) => ({
      pattern: pattern.replace('HEAD_PATTERN_', '').toLowerCase().replaceAll('_', '-'),
      density,
      attendedKeys: Number(attendedKeys),
      causalKeys: Number(causalKeys),
    })),
    layers: wire.layerCausalKeys.map((causal, layer) =>
      layerDensity(Number(wire.layerAttendedKeys[layer]), Number(causal)),
    ),
    ...{ density, selectionShare, guardErrorMean, guardErrorMax },
    estimateMicros: Number(wire.estimateMicros),
    indexMicros: Number(wire.indexMicros),
    attentionMicros: Number(wire.attentionMicros),
    guardBlocks: Number(wire.guardBlocks),
  };
}

/** A layer that nothing ran in attended to all of it. */
function layerDensity(attendedKeys: number, causalKeys: number): LayerDensity {
  return { attendedKeys, causalKeys, density: causalKeys > 0 ? attendedKeys / causalKeys : 1 };
}
