import type { TokenRange } from '../../domain/token-range.js';
import { groupBy } from '../eval/report/group-by.js';
import { median } from '../eval/report/statistics.js';
import type { MeasuredChunk } from './interleaved-prefill.js';

/** What a chunk costs under a policy, in seconds inside the engine. */
export interface ChunkCost extends TokenRange {
  readonly seconds: number;
  /** All of attention, with estimate and index. */
  readonly attentionSeconds: number;
  /** Of the attention: scores and selection of keys. */
  readonly estimateSeconds: number;
  /** Of the attention. */
  readonly indexSeconds: number;
  /** False: it follows from the cost law. */
  readonly isMeasured: boolean;
}

/**
 * The median over repeats, of each part by itself.
 * @param chunks of one policy, of one or more repeats
 * @returns in order of positions
 */
export function medianCosts(chunks: readonly MeasuredChunk[]): ChunkCost[] {
  const byPlace = groupBy(chunks, ({ beginToken }) => beginToken);
  return [...byPlace.values()].map(costOf).sort((a, b) => a.beginToken - b.beginToken);
}

function costOf(repeats: readonly MeasuredChunk[]): ChunkCost {
  const seconds = (of: (result: MeasuredChunk['result']) => number): number =>
    median(repeats.map(({ result }) => of(result))) / 1e6;
  return {
    beginToken: repeats[0]?.beginToken ?? 0,
    endToken: repeats[0]?.endToken ?? 0,
    seconds: seconds(({ engineMicros }) => engineMicros),
    attentionSeconds: seconds(({ attentionMicros }) => attentionMicros),
    estimateSeconds: seconds(({ sparse }) => sparse.estimateMicros),
    indexSeconds: seconds(({ sparse }) => sparse.indexMicros),
    isMeasured: true,
  };
}
