/**
 * Sparse prefill with every threshold resolved at admission: nothing in it depends on the host that
 * runs a chunk.
 */
export interface ResolvedSparsePolicy {
  /** A chunk that ends at or before this position is dense. */
  readonly denseBelowTokens: number;
  /** Most key tiles (64 keys) of a block of 64 queries, where the pattern file does not say. */
  readonly tilesPerBlock: number;
  /** SHA-256 of the pattern file's content, 64 hex digits; '' for flexprefill, which has none. */
  readonly patternsSha256: string;
  /** FlexPrefill: share of the attention mass to cover, (0, 1]. */
  readonly gamma: number;
  /** FlexPrefill: most distance of pooled to true attention of a query-aware head. */
  readonly tau: number;
  /** FlexPrefill: least key tiles of a query block. */
  readonly minTiles: number;
  /** Every n-th (chunk, layer) has one query block computed densely too, for its error; 0: none. */
  readonly guardInterval: number;
}

/** Key tiles of a query block that a request or a pattern file may ask for: 64 to 4,194,304 keys. */
export const MAX_TILES_PER_BLOCK = 65_536;
/** The prompt's last rows attend densely under every policy. */
export const DENSE_TAIL_ROWS = 128;

/** What a request may say of its sparse prefill; null where it does not. */
export interface WantedSparsePolicy {
  readonly tilesPerBlock: number | null;
  readonly denseBelowTokens: number | null;
  readonly gamma: number | null;
}
