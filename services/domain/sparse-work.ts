import { HEAD_PATTERNS, type HeadPatternName } from './head-pattern.js';

/** What chunks of a sparse session did. Sums over chunks, layers and query heads. */
export interface SparseWork {
  /** Tokens of the chunks that attended sparsely, and of those that were too early for it. */
  readonly sparseTokens: number;
  readonly denseTokens: number;
  /** By pattern, as HEAD_PATTERNS names them: keys that query blocks of 64 rows attended to. */
  readonly attendedKeys: readonly number[];
  /** By pattern: keys that dense attention would have seen in those query blocks. */
  readonly causalKeys: readonly number[];
  /** Scores and selection of keys. */
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
  const byPattern = (x: readonly number[], y: readonly number[]): number[] =>
    HEAD_PATTERNS.map((_, place) => (x[place] ?? 0) + (y[place] ?? 0));
  return {
    sparseTokens: a.sparseTokens + b.sparseTokens,
    denseTokens: a.denseTokens + b.denseTokens,
    attendedKeys: byPattern(a.attendedKeys, b.attendedKeys),
    causalKeys: byPattern(a.causalKeys, b.causalKeys),
    estimateMicros: a.estimateMicros + b.estimateMicros,
    indexMicros: a.indexMicros + b.indexMicros,
    attentionMicros: a.attentionMicros + b.attentionMicros,
    guardBlocks: a.guardBlocks + b.guardBlocks,
    guardErrorSum: a.guardErrorSum + b.guardErrorSum,
    guardErrorMax: Math.max(a.guardErrorMax, b.guardErrorMax),
  };
}

/** Share of the causal keys that a pattern's heads attended to. */
export interface PatternDensity {
  readonly pattern: HeadPatternName;
  readonly attendedKeys: number;
  readonly causalKeys: number;
  /** attendedKeys / causalKeys, (0, 1]. */
  readonly density: number;
}

/** Of the patterns that some head had. */
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
