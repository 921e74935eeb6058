import type { FleetMember } from '../../domain/fleet.js';
import { ServingError } from '../../domain/serving-error.js';
import { CUT_ALIGNMENT_TOKENS } from '../plan/plan-prefill-chunks.js';
import { FLEET_RETRY_MS } from './served-model.js';

/** A worker, and a decode on the same host that can map its segments. */
export interface Lane {
  readonly worker: FleetMember;
  readonly decode: FleetMember;
}

/** What is promised or running already. */
export interface Load {
  /** Reserved bytes by storeId. */
  readonly reservedBytes: ReadonlyMap<string, number>;
  /** Sessions by memberId, as this router has placed them (heartbeats lag by 2 s). */
  readonly placedSessions: ReadonlyMap<string, number>;
}

/** Host bytes of K and V: whole pages, as segments are stored. */
export function sessionBytes(tokens: number, kvBytesPerToken: number): number {
  return Math.ceil(tokens / CUT_ALIGNMENT_TOKENS) * CUT_ALIGNMENT_TOKENS * kvBytesPerToken;
}

/**
 * All lanes that could take a session of a model, best first: the emptiest store, then the least
 * busy worker and decode.
 *
 * @throws ServingError NO_WORKER or NO_DECODE when there is none
 */
export function rankLanes(
  model: string,
  modelFingerprint: string,
  members: readonly FleetMember[],
  load: Load,
): Lane[] {
  const fit = members.filter(
    (member) =>
      member.model === model && member.modelFingerprint === modelFingerprint && !member.draining,
  );
  const workers = fit.filter(({ role, stages }) => role === 'worker' && stages === 1);
  if (workers.length === 0) {
    throw new ServingError(
      'NO_WORKER',
      `no worker takes sessions of model ${model} now; try again`,
      {
        retryAfterMs: FLEET_RETRY_MS,
      },
    );
  }
  const decodes = fit.filter(({ role }) => role === 'decode');
  const lanes = workers.flatMap((worker) => {
    const [decode] = decodes
      .filter(({ storeId }) => storeId === worker.storeId)
      .sort((a, b) => busy(a, load) - busy(b, load));
    return decode === undefined ? [] : [{ worker, decode }];
  });
  if (lanes.length === 0) {
    throw new ServingError(
      'NO_DECODE',
      `no decode of model ${model} shares a value store with a worker now; start one beside it or try again`,
      { retryAfterMs: FLEET_RETRY_MS },
    );
  }
  return lanes.sort(
    (a, b) =>
      fullness(a.worker, load) - fullness(b.worker, load) ||
      busy(a.worker, load) - busy(b.worker, load),
  );
}

function fullness({ storeId, storeCapacityBytes }: FleetMember, load: Load): number {
  return (load.reservedBytes.get(storeId) ?? 0) / Math.max(storeCapacityBytes, 1);
}

function busy({ memberId, activeSessions }: FleetMember, load: Load): number {
  return Math.max(activeSessions, load.placedSessions.get(memberId) ?? 0);
}
