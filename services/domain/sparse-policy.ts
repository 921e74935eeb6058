/**
 * Sparse prefill with every threshold resolved at admission: nothing in it depends on the host that
 * runs a chunk.
 */
export interface ResolvedSparsePolicy {
  /** A chunk that ends at or before this position is dense. */
  readonly denseBelowTokens: number;
  /** Most key tiles (64 keys) of a block of 64 queries, where no pattern file says. */
  readonly tilesPerBlock: number;
  /** The request named tilesPerBlock: it is every head's, whatever the pattern file says. */
  readonly tilesOverrideFile: boolean;
  /** Of what the pattern file says of heads, 64 hex digits; '' for policies that read none. */
  readonly patternsSha256: string;
  /** FlexPrefill: share of the attention mass to cover, (0, 1]. */
  readonly gamma: number;
  /** FlexPrefill: most distance of pooled to true attention of a query-aware head. */
  readonly tau: number;
  /** FlexPrefill: least key tiles of a query block. */
  readonly minTiles: number;
  /** One of so many (chunk, layer) pairs has a query block computed densely too; 0: none. */
  readonly guardInterval: number;
}

/**
 * Of the patterns that a session's workers must have read.
 * @returns '' for a policy that reads none
 */
export function neededPatterns(policy: { readonly sparse: ResolvedSparsePolicy | null }): string {
  return policy.sparse?.patternsSha256 ?? '';
}

/** Key tiles of a query block that a request or a pattern file may ask for: 64 to 4,194,304 keys. */
export const MAX_TILES_PER_BLOCK = 65_536;
/** The prompt's last rows attend densely under every policy. */
export const DENSE_TAIL_ROWS = 128;
/** FlexPrefill's own thresholds (arXiv:2502.20766, section 4). */
export const FLEX_DEFAULTS = { gamma: 0.95, tau: 0.1, minTiles: 8 } as const;
/** What a router, and a measurement, takes where nothing else is said. */
export const DEFAULT_TILES_PER_BLOCK = 128;
export const DEFAULT_DENSE_BELOW_TOKENS = 8_192;

/**
 * Where the prompt's dense last rows begin.
 * @returns null for a chunk that has none of them
 */
export function denseFromToken(chunk: {
  readonly beginToken: number;
  readonly endToken: number;
  /** Null while the upload is open: its last chunk is not known. */
  readonly totalTokens: number | null;
}): number | null {
  const { beginToken, endToken, totalTokens } = chunk;
  if (totalTokens === null) return null;
  const denseFrom = Math.max(beginToken, totalTokens - DENSE_TAIL_ROWS);
  return denseFrom < endToken ? denseFrom : null;
}

/** What a request may say of its sparse prefill; null where it does not. */
export interface WantedSparsePolicy {
  readonly tilesPerBlock: number | null;
  readonly denseBelowTokens: number | null;
  readonly gamma: number | null;
}
