import type { AnswerReport } from '../../rpc/answer-events.js';

/**
 * Share of the causal keys that a turn's prefill attended to, over all heads of its sparse chunks.
 * @returns 1 where all chunks were dense; null where nothing was prefilled, so nothing was measured
 */
export function tileDensity({
  prefillPolicy,
  sparsePrefill,
}: Pick<AnswerReport, 'prefillPolicy' | 'sparsePrefill'>): number | null {
  if (prefillPolicy === 'dense') return 1;
  if (sparsePrefill === null) return null;
  const { densities, sparseTokens, denseTokens } = sparsePrefill;
  if (sparseTokens === 0) return denseTokens > 0 ? 1 : null;
  const sum = (values: readonly number[]): number => values.reduce((all, one) => all + one, 0);
  const causal = sum(densities.map(({ causalKeys }) => causalKeys));
  return causal === 0 ? null : sum(densities.map(({ attendedKeys }) => attendedKeys)) / causal;
}
