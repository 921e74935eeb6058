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
 * @throws ServingError NO_WORKER or NO_DECODE when there is none, TOO_MANY_SESSIONS when all of
 *   their decodes are full
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
  const paired = workers.map((worker) => ({
    worker,
    decodes: decodes.filter(({ storeId }) => storeId === worker.storeId),
  }));
  if (paired.every((lane) => lane.decodes.length === 0)) {
    throw new ServingError(
      'NO_DECODE',
      `no decode of model ${model} shares a value store with a worker now; start one beside it or try again`,
      { retryAfterMs: FLEET_RETRY_MS },
    );
  }
  const lanes = paired.flatMap(({ worker, decodes: near }) => {
    const [decode] = near
      .filter((member) => member.maxSessions === 0 || busy(member, load) < member.maxSessions)
      .sort((a, b) => busy(a, load) - busy(b, load));
    return decode === undefined ? [] : [{ worker, decode }];
  });
  if (lanes.length === 0) throw decodesFull(model, decodes);
  return lanes.sort(
    (a, b) =>
      fullness(a.worker, load) - fullness(b.worker, load) ||
      busy(a.worker, load) - busy(b.worker, load),
  );
}

function decodesFull(model: string, decodes: readonly FleetMember[]): ServingError {
  const most = String(decodes.reduce((total, { maxSessions }) => total + maxSessions, 0));
  return new ServingError(
    'TOO_MANY_SESSIONS',
    `the decodes of model ${model} hold their ${most} sessions; try again, or start another decode`,
    {
      retryAfterMs: FLEET_RETRY_MS,
      quota: { subject: 'decode sessions', description: `at most ${most} at a time` },
    },
  );
}

function fullness({ storeId, storeCapacityBytes }: FleetMember, load: Load): number {
  return (load.reservedBytes.get(storeId) ?? 0) / Math.max(storeCapacityBytes, 1);
}

function busy({ memberId, activeSessions }: FleetMember, load: Load): number {
  return Math.max(activeSessions, load.placedSessions.get(memberId) ?? 0);
}
