/** How a query head chooses its keys; the place of a name is the engine's number for it. */
export const HEAD_PATTERNS = [
  'dense',
  'a-shape',
  'vertical-slash',
  'block-sparse',
  'flex',
  'key-bounds',
] as const;
export type HeadPatternName = (typeof HEAD_PATTERNS)[number];

/** A query head's pattern as a pattern file gives it. Limits are of the keys that 64 queries see. */
export interface HeadPattern {
  readonly pattern: Exclude<HeadPatternName, 'dense' | 'flex'>;
  /** A-shape: first keys. Vertical-slash: most columns. Others: 0. */
  readonly columns: number;
  /** A-shape: nearest keys. Vertical-slash: most diagonals. Others: 0. */
  readonly distances: number;
  /** Most key tiles (64 keys); null: as many as the policy says. */
  readonly tiles: number | null;
}

/** Whether columns and distances limit a pattern's keys; others choose whole tiles. */
export function hasLines(pattern: HeadPatternName): boolean {
  return pattern === 'a-shape' || pattern === 'vertical-slash';
}

/** Keys, or queries, of a tile. */
export const TILE_TOKENS = 64;
/** MInference's baseline (arXiv:2407.02490): 1,024 first keys of 5,120. */
const SINK_SHARE = 1_024 / 5_120;

/**
 * The published A-shape, for any cost: whole tiles of first keys (a fifth, and at least one) and of
 * nearest ones, the query block's own among them, `tiles` together. One tile is the own one.
 */
export function aShapeOf(tiles: number): HeadPattern {
  const first = Math.min(Math.max(1, Math.floor(tiles * SINK_SHARE)), tiles - 1);
  // The distance 0 alone costs a block its own tile; from there on, a tile is 64 distances.
  const distances = (tiles - first - 1) * TILE_TOKENS + 1;
  return { pattern: 'a-shape', columns: first * TILE_TOKENS, distances, tiles };
}

/**
 * What a head has that no file speaks of: the one pattern that finds what a single query in the middle
 * of a prompt looks for.
 */
export const DEFAULT_HEAD_PATTERN: HeadPattern = {
  pattern: 'key-bounds',
  columns: 0,
  distances: 0,
  tiles: null,
};

/** The patterns of a model's query heads, [layer][query head]; what is absent has the default. */
export type ModelPatterns = readonly ReadonlyMap<number, HeadPattern>[];

export function patternOf(patterns: ModelPatterns, layer: number, head: number): HeadPattern {
  return patterns[layer]?.get(head) ?? DEFAULT_HEAD_PATTERN;
}
