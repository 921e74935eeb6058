import type { AnswerReport } from '../../rpc/answer-events.js';

/**
 * Share of dense attention's keys that a turn's prefill attended to, over all chunks that ran.
 * @returns null where none ran, so that nothing was measured
 */
export function tileDensity({
  prefillPolicy,
  sparsePrefill,
}: Pick<AnswerReport, 'prefillPolicy' | 'sparsePrefill'>): number | null {
  if (prefillPolicy === 'dense') return 1;
  if (sparsePrefill === null) return null;
  const { sparseTokens, denseTokens, density } = sparsePrefill;
  return sparseTokens + denseTokens > 0 ? density : null;
}
