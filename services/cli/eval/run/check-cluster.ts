import { ServingError } from '../../../domain/serving-error.js';
import type { Routers } from '../../rpc/routers.js';
import type { ServedModel } from '../../rpc/served-model.js';
import type { SparseThresholds } from '../../rpc/sparse-thresholds.js';
import { probeIds } from './check-tokenizer.js';
import type { EvalCluster } from './eval-cluster.js';
import { type EvalPolicy, policyOptions } from './policies.js';
import type { PromptHalves } from './prompt-halves.js';
import type { PlanThresholds } from './run-plan.js';
import { runTurn } from './run-turn.js';

/**
 * The model that a run asks for; of one that is served alone, the name may be left out.
 * @throws ServingError UNKNOWN_MODEL naming those that are served
 */
export async function chooseModel(
  routers: Routers,
  name: string | undefined,
): Promise<ServedModel> {
  const models = await routers.models();
  const found = name === undefined ? models : models.filter((model) => model.name === name);
  const [only] = found;
  if (only !== undefined && found.length === 1) return only;
  const served = models.map((model) => model.name).join(', ');
  throw new ServingError(
    'UNKNOWN_MODEL',
    models.length === 0
      ? 'the cluster serves no model now; start a worker and a decode'
      : name === undefined
        ? `several models are served: choose one of ${served} with --model`
        : `model "${name}" is not served here; served: ${served}`,
  );
}

/** @throws ServingError PROMPT_TOO_LONG naming the model's limit */
export function checkLengths(
  lengths: readonly number[],
  { name, maxPositions }: ServedModel,
): void {
  const tooLong = lengths.find((length) => length > maxPositions);
  if (tooLong === undefined) return;
  throw new ServingError(
    'PROMPT_TOO_LONG',
    `--lengths: ${String(tooLong)} tokens are more than the ${String(maxPositions)} positions of model ${name}`,
  );
}

/**
 * Asks for a token under each policy.
 * @returns the thresholds that the router resolved for those that prefill sparsely, by the policy's name
 * @throws ServingError POLICY_NOT_AVAILABLE, as the router says it
 */
export async function checkPolicies(
  cluster: EvalCluster,
  policies: readonly EvalPolicy[],
  halves: PromptHalves,
): Promise<PlanThresholds> {
  const ids = await probeIds(halves);
  const resolved: [string, SparseThresholds][] = [];
  for (const policy of policies) {
    const { model } = cluster;
    const options = {
      model,
      ...policyOptions(policy),
      maxNewTokens: 1,
      maxPromptTokens: ids.length,
    };
    const { thresholds } = await cluster.surely(
      async () => runTurn(cluster, options, ids),
      () => false,
    );
    if (thresholds !== null) resolved.push([policy.name, thresholds]);
  }
  return Object.fromEntries(resolved);
}
