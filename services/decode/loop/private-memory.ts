/** Positions of a private KV page; native/include/longshadow/kv_pages.h. */
const PAGE_TOKENS = 512;

/**
 * Bytes of private pages that a session holds. They begin at the last multiple of 512 of the
 * hand-off (the rows of a partial last page are copied) and are taken whole.
 *
 * @param sealedTokens tokens of the hand-off
 * @param tokens positions that K and V cover, generated ones included
 */
export function privateKvBytes(
  sealedTokens: number,
  tokens: number,
  kvBytesPerToken: number,
): number {
  const firstPage = Math.floor(sealedTokens / PAGE_TOKENS);
  const pages = Math.ceil(tokens / PAGE_TOKENS) - firstPage;
  return Math.max(0, pages) * PAGE_TOKENS * kvBytesPerToken;
}
