import type { SparseStats } from '../../../native/ts/index.js';
import { sum } from '../eval/report/statistics.js';
import type { MeasuredChunk } from './interleaved-prefill.js';

/**
 * Share of dense attention's key tiles, (0, 1], over all rows, layers and query heads of the chunks:
 * those of dense chunks, of the prompt's dense last rows and of dense layers too.
 */
export function tileDensity(chunks: readonly Pick<MeasuredChunk, 'result'>[]): number {
  const keys = (of: (sparse: SparseStats) => Float64Array): number =>
    sum(chunks.flatMap(({ result }) => [...of(result.sparse)]));
  return share(
    keys(({ attendedKeys }) => attendedKeys),
    keys(({ causalKeys }) => causalKeys),
  );
}

/** The same by layer. */
export function layerDensities(chunks: readonly Pick<MeasuredChunk, 'result'>[]): number[] {
  const keys = (of: (sparse: SparseStats) => Float64Array, layer: number): number =>
    sum(chunks.map(({ result }) => of(result.sparse)[layer] ?? 0));
  const layers = chunks[0]?.result.sparse.layerCausalKeys.length ?? 0;
  return Array.from({ length: layers }, (_, layer) =>
    share(
      keys(({ layerAttendedKeys }) => layerAttendedKeys, layer),
      keys(({ layerCausalKeys }) => layerCausalKeys, layer),
    ),
  );
}

/** A dense session counts nothing. */
function share(attended: number, causal: number): number {
  return causal === 0 ? 1 : attended / causal;
}
