import type { FleetMember } from '../../domain/fleet.js';
import { ServingError } from '../../domain/serving-error.js';

/** What the fleet says about a model. */
export interface ServedModel {
  readonly name: string;
  readonly modelFingerprint: string;
  readonly dtype: 'bf16' | 'fp32';
  readonly cutRule: 'cpu' | 'gpu';
  readonly vocabSize: number;
  readonly maxPositions: number;
  /** Host bytes of K and V a token, over all stages. */
  readonly kvBytesPerToken: number;
  readonly layerBegin: number;
  readonly layerEnd: number;
}

/** When a client may ask again after the fleet had nobody to serve it. */
export const FLEET_RETRY_MS = 2_000;

/**
 * @returns the model as its workers announce it (the one that started last, during an update)
 * @throws ServingError NO_WORKER if nobody serves it
 */
export function servedModel(name: string, members: readonly FleetMember[]): ServedModel {
  const [worker] = members
    .filter((member) => member.role === 'worker' && member.model === name && !member.draining)
    .sort((a, b) => b.startedUnixMs - a.startedUnixMs);
  if (worker === undefined) {
    throw new ServingError(
      'NO_WORKER',
      `no worker serves model ${name} now; start one or try again`,
      { retryAfterMs: FLEET_RETRY_MS },
    );
  }
  return describe(worker);
}

/** As a worker announces it. */
export function describe(worker: FleetMember): ServedModel {
  return {
    name: worker.model,
    modelFingerprint: worker.modelFingerprint,
    dtype: worker.dtype,
    cutRule: worker.device.startsWith('cuda') ? 'gpu' : 'cpu',
    vocabSize: worker.vocabSize,
    maxPositions: worker.maxPositions,
    kvBytesPerToken: worker.kvBytesPerToken,
    layerBegin: worker.layerBegin,
    layerEnd: worker.layerEnd,
  };
}
