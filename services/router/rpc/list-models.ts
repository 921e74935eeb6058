import type { ListModelsRequest__Output } from '../../../proto/gen/longshadow/router/v1/ListModelsRequest.js';
import type { ListModelsResponse } from '../../../proto/gen/longshadow/router/v1/ListModelsResponse.js';
import type { Model } from '../../../proto/gen/longshadow/router/v1/Model.js';
import type { FleetMember } from '../../domain/fleet.js';
import type { Unary } from '../../platform/rpc/unary.js';
import { CACHE_POLICIES, PREFILL_POLICIES } from '../admission/resolve-policy.js';
import { servedModel } from '../admission/served-model.js';
import type { RouterDeps } from './router-deps.js';
import { CACHE_POLICY, PREFILL_POLICY } from './to-wire.js';

/** Router.ListModels: the models that have a tokenizer here and a worker in the fleet. */
export function makeListModels(
  deps: RouterDeps,
): Unary<ListModelsRequest__Output, ListModelsResponse> {
  return async () => {
    const members = await deps.fleet.members();
    const models = deps.models.names
      .filter((name) => takers(name, members).length > 0)
      .sort()
      .map((name) => describeModel(name, members, deps.defaultMaxPromptTokens));
    return { models };
  };
}

function takers(name: string, members: readonly FleetMember[]): FleetMember[] {
  return members.filter(
    ({ role, model, draining }) => role === 'worker' && model === name && !draining,
  );
}

function describeModel(
  name: string,
  members: readonly FleetMember[],
  defaultMaxPromptTokens: number,
): Model {
  const model = servedModel(name, members);
  const lanes = takers(name, members).filter(({ storeId, modelFingerprint }) =>
    members.some(
      (member) =>
        member.role === 'decode' &&
        !member.draining &&
        member.storeId === storeId &&
        member.modelFingerprint === modelFingerprint,
    ),
  );
  return {
    name,
    fingerprint: model.modelFingerprint,
    maxPositions: model.maxPositions,
    defaultMaxPromptTokens: Math.min(defaultMaxPromptTokens, model.maxPositions),
    kvBytesPerToken: model.kvBytesPerToken,
    vocabSize: model.vocabSize,
    lanes: lanes.length,
    prefillPolicies: PREFILL_POLICIES.map((policy) => PREFILL_POLICY[policy]),
    cachePolicies: CACHE_POLICIES.map((policy) => CACHE_POLICY[policy]),
  };
}
