/** How a query head chooses its keys; the place of a name is the engine's number for it. */
export const HEAD_PATTERNS = [
  'dense',
  'a-shape',
  'vertical-slash',
  'block-sparse',
  'flex',
] as const;
export type HeadPatternName = (typeof HEAD_PATTERNS)[number];

/** A query head's pattern as a pattern file gives it. Limits are of the keys that 64 queries see. */
export interface HeadPattern {
  readonly pattern: 'a-shape' | 'vertical-slash' | 'block-sparse';
  /** A-shape: first keys. Vertical-slash: most columns. Block-sparse: 0. */
  readonly columns: number;
  /** A-shape: nearest keys. Vertical-slash: most diagonals. Block-sparse: 0. */
  readonly distances: number;
  /** Most key tiles (64 keys); null: as many as the policy says. */
  readonly tiles: number | null;
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

/** What a head has that no file speaks of (MInference's own default). */
export const DEFAULT_HEAD_PATTERN: HeadPattern = {
  pattern: 'vertical-slash',
  columns: 1_000,
  distances: 6_096,
  tiles: null,
};

/** The patterns of a model's query heads, [layer][query head]; what is absent has the default. */
export type ModelPatterns = readonly ReadonlyMap<number, HeadPattern>[];

export function patternOf(patterns: ModelPatterns, layer: number, head: number): HeadPattern {
  return patterns[layer]?.get(head) ?? DEFAULT_HEAD_PATTERN;
}
