import { HEAD_PATTERNS, type HeadPatternName } from './head-pattern.js';

/**
 * What chunks of a sparse session did: sums over chunks. Keys are those of query blocks: 64 queries that
 * see 128 keys count 128. By pattern and by layer the same keys are counted, those of dense rows, layers
 * and chunks too.
 */
export interface SparseWork {
  /** Tokens of the chunks that attended sparsely, and of those that were too early for it. */
  readonly sparseTokens: number;
  readonly denseTokens: number;
  /** Keys attended to, by pattern as HEAD_PATTERNS names them; all that was dense is `dense`. */
  readonly attendedKeys: readonly number[];
  /** Keys that dense attention would have seen, by pattern. */
  readonly causalKeys: readonly number[];
  /** Keys attended to, by layer of the model from its first one on, up to the last that ran. */
  readonly layerAttendedKeys: readonly number[];
  /** Keys that dense attention would have seen, by layer. */
  readonly layerCausalKeys: readonly number[];
  /** Of sparse attention alone, from here on: scores and selection of keys. */
  readonly estimateMicros: number;
  readonly indexMicros: number;
  /** Attention over the selected keys. */
  readonly attentionMicros: number;
  /** Query blocks (one query head each) that were computed densely too. */
  readonly guardBlocks: number;
  /** Of their relative L2 errors |sparse - dense| / |dense|. */
  readonly guardErrorSum: number;
  readonly guardErrorMax: number;
}

/** Both together; null is nothing. */
export function addSparseWork(a: SparseWork | null, b: SparseWork | null): SparseWork | null {
  if (a === null || b === null) return a ?? b;
  return {
    sparseTokens: a.sparseTokens + b.sparseTokens,
    denseTokens: a.denseTokens + b.denseTokens,
    attendedKeys: byPlace(a.attendedKeys, b.attendedKeys),
    causalKeys: byPlace(a.causalKeys, b.causalKeys),
    layerAttendedKeys: byPlace(a.layerAttendedKeys, b.layerAttendedKeys),
    layerCausalKeys: byPlace(a.layerCausalKeys, b.layerCausalKeys),
    estimateMicros: a.estimateMicros + b.estimateMicros,
    indexMicros: a.indexMicros + b.indexMicros,
    attentionMicros: a.attentionMicros + b.attentionMicros,
    guardBlocks: a.guardBlocks + b.guardBlocks,
    guardErrorSum: a.guardErrorSum + b.guardErrorSum,
    guardErrorMax: Math.max(a.guardErrorMax, b.guardErrorMax),
  };
}

/** Stages have layers of their own: the shorter list has nothing of those that it lacks. */
function byPlace(a: readonly number[], b: readonly number[]): number[] {
  const longer = a.length < b.length ? b : a;
  return longer.map((_, place) => (a[place] ?? 0) + (b[place] ?? 0));
}

/** Share of dense attention that was done, (0, 1], over all that ran: dense rows too. */
export function totalDensity({ attendedKeys, causalKeys }: SparseWork): number {
  const causal = sumOf(causalKeys);
  return causal > 0 ? sumOf(attendedKeys) / causal : 1;
}

function sumOf(counts: readonly number[]): number {
  return counts.reduce((sum, count) => sum + count, 0);
}

/** Share of the causal keys that a pattern's heads attended to. */
export interface PatternDensity {
  readonly pattern: HeadPatternName;
  readonly attendedKeys: number;
  readonly causalKeys: number;
  /** attendedKeys / causalKeys, (0, 1]. */
  readonly density: number;
}

/** Of the patterns that some head had, and of what was dense. */
export function patternDensities(work: SparseWork): PatternDensity[] {
  return HEAD_PATTERNS.map((pattern, place) => {
    const attendedKeys = work.attendedKeys[place] ?? 0;
    const causalKeys = work.causalKeys[place] ?? 0;
    return { pattern, attendedKeys, causalKeys, density: attendedKeys / causalKeys };
  }).filter(({ causalKeys }) => causalKeys > 0);
}

/** Share of sparse attention's time that choosing keys took, [0, 1]; 0 where none ran. */
export function selectionShare(work: SparseWork): number {
  const selection = work.estimateMicros + work.indexMicros;
  const all = selection + work.attentionMicros;
  return all > 0 ? selection / all : 0;
}
