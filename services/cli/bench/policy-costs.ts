import type { TokenRange } from '../../domain/token-range.js';
import { sum } from '../eval/report/statistics.js';
import { type ChunkCost, medianCosts } from './chunk-cost.js';
import { type CostLaw, fitCostLaw, lawCost } from './cost-law.js';
import type { MeasuredChunk } from './interleaved-prefill.js';

/** What a whole prompt costs under one policy. */
export interface PolicyCosts {
  readonly policy: string;
  /** One a chunk of the prompt, in order. */
  readonly costs: readonly ChunkCost[];
  /** That the chunks which did not run follow; null: all ran. */
  readonly law: CostLaw | null;
}

/**
 * @param chunks of one policy, of one or more repeats; one at least, and all but the last ones of `plan`
 * @param plan the prompt's chunks
 */
export function policyCosts(
  policy: string,
  chunks: readonly MeasuredChunk[],
  plan: readonly TokenRange[],
): PolicyCosts {
  const costs = medianCosts(chunks);
  const missing = plan.slice(costs.length);
  if (missing.length === 0) return { policy, costs, law: null };
  const law = fitCostLaw(costs);
  return { policy, costs: [...costs, ...missing.map((chunk) => lawCost(law, chunk))], law };
}

/** Of the chunks, all of them or those that `where` picks. */
export function secondsOf(
  costs: readonly ChunkCost[],
  where: (cost: ChunkCost) => boolean = () => true,
): number {
  return sum(costs.filter(where).map(({ seconds }) => seconds));
}
