import type { SampleResult } from '../../../../../services/cli/eval/eval-types.js';
import type { RunPlan } from '../../../../../services/cli/eval/run/run-plan.js';

/** A plan of two documents. */
export const PLAN: RunPlan = {
  ...{ benchmark: 'needle', model: 'm', modelFingerprint: 'f', tokenizerFingerprint: 't' },
  ...{ policies: ['dense'], tasks: ['needle'], lengths: [4_096], documents: 2, seed: 1 },
  generators: 1,
  options: { depths: 5 },
};

/** A right answer. */
export function sampleOf(documentId: string, questionId: string): SampleResult {
  return {
    ...{ documentId, questionId, task: 'needle', lengthTokens: 4_096, policy: 'dense' },
    ...{ promptTokens: 4_000, prediction: 'é\n"', references: ['1'], score: 1, facts: {} },
    ...{ logprobSum: null, targetTokens: null, worstRank: null, timeToFirstTokenMs: 1 },
    tileDensity: 1,
  };
}
