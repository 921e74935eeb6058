import type { FleetMember } from '../../domain/fleet.js';
import type { ResolvedPolicy } from '../../domain/policy.js';
import { ServingError } from '../../domain/serving-error.js';
import type { Reservation } from '../../domain/session-record.js';
import { neededPatterns } from '../../domain/sparse-policy.js';
import {
  fitWorkers,
  type Lane,
  type LaneNeeds,
  type Load,
  rankLanes,
  sessionBytes,
} from './choose-lane.js';
import { evictFromDecodes, type EvictionStore, reserveEvicting } from './evict-kept.js';
import { reserveSharing } from './reserve-sharing.js';
import type { ServedModel } from './served-model.js';

/** When a client may ask again after all stores, or queues, were full: other sessions end meanwhile. */
const FULL_RETRY_MS = 5_000;

export interface PlacedSession {
  readonly lane: Lane;
  readonly reservation: Reservation;
}

export interface LaneRequest {
  readonly sessionId: string;
  readonly model: ServedModel;
  readonly policy: ResolvedPolicy;
  readonly tokens: number;
  readonly members: readonly FleetMember[];
  readonly placedSessions: ReadonlyMap<string, number>;
}

export interface ReserveDeps {
  readonly store: EvictionStore;
  /** Jobs of a worker that wait or run. */
  readonly queues: { depth(workerId: string): Promise<number> };
  /** A worker with as many jobs takes no new session. */
  readonly maxQueuedJobs: number;
}

/**
 * Reserves host memory for a session on the best lane that has room. Where none has, kept sessions
 * make room, those that were used longest ago first.
 * @throws ServingError NO_WORKER, NO_DECODE, TOO_MANY_SESSIONS, QUEUE_FULL, VALUE_STORE_FULL
 */
export async function reserveLane(request: LaneRequest, deps: ReserveDeps): Promise<PlacedSession> {
  const { sessionId, model, tokens } = request;
  const bytes = sessionBytes(tokens, model.kvBytesPerToken);
  const members = await withoutFullQueues(request, deps);
  const lanes = await lanesWithDecodes({ ...request, members }, deps);
  for (const evicting of [false, true]) {
    for (const lane of lanes) {
      const { storeId, storeCapacityBytes: capacityBytes } = lane.worker;
      const wanted = { storeId, sessionId, bytes, heldBytes: 0, capacityBytes };
      const reserved = evicting
        ? await reserveEvicting(wanted, deps.store)
        : await reserveSharing(wanted, deps.store);
      if (reserved) return { lane, reservation: { storeId, bytes, tokens } };
    }
  }
  throw storeFull(bytes, tokens, model.name);
}

/** Lanes whose decodes have a place, made by ending a kept session if need be. */
async function lanesWithDecodes(request: LaneRequest, { store }: ReserveDeps): Promise<Lane[]> {
  const { model, members, placedSessions } = request;
  const load = { reservedBytes: await reservedBytes(members, store), placedSessions };
  const rank = (among: readonly FleetMember[], now: Load): Lane[] =>
    rankLanes(needsOf(request), among, now);
  try {
    return rank(members, load);
  } catch (error) {
    if (!(error instanceof ServingError && error.code === 'TOO_MANY_SESSIONS')) throw error;
    const full = members.filter(
      ({ role, modelFingerprint, draining }) =>
        role === 'decode' && modelFingerprint === model.modelFingerprint && !draining,
    );
    const storeIds = [...new Set(full.map(({ storeId }) => storeId))];
    const freed = await evictFromDecodes(storeIds, new Set(full.map(idOf)), store);
    if (freed === null) throw error;
    // Heartbeats tell of it only later.
    const among = members.map((member) =>
      idOf(member) === freed ? { ...member, activeSessions: member.activeSessions - 1 } : member,
    );
    const placed = new Map(placedSessions).set(freed, (placedSessions.get(freed) ?? 0) - 1);
    return rank(among, { ...load, placedSessions: placed });
  }
}

async function reservedBytes(
  members: readonly FleetMember[],
  { reservations }: EvictionStore,
): Promise<Map<string, number>> {
  const storeIds = [...new Set(members.map(({ storeId }) => storeId))];
  return new Map(
    await Promise.all(
      storeIds.map(async (id) => [id, await reservations.reservedBytes(id)] as const),
    ),
  );
}

function needsOf({ model, policy }: LaneRequest): LaneNeeds {
  const { name, modelFingerprint } = model;
  return { model: name, modelFingerprint, patternsSha256: neededPatterns(policy) };
}

/** @throws ServingError NO_WORKER; QUEUE_FULL if no worker that fits takes another session */
async function withoutFullQueues(
  request: LaneRequest,
  { queues, maxQueuedJobs }: ReserveDeps,
): Promise<FleetMember[]> {
  const { model, members } = request;
  const workers = fitWorkers(needsOf(request), members);
  const depths = await Promise.all(workers.map(async ({ memberId }) => queues.depth(memberId)));
  const full = new Set(workers.filter((_, at) => (depths[at] ?? 0) >= maxQueuedJobs).map(idOf));
  if (full.size === 0 || full.size < workers.length) {
    return members.filter((member) => !full.has(idOf(member)));
  }
  const most = `at most ${String(maxQueuedJobs)} jobs on a worker's queue`;
  throw new ServingError(
    'QUEUE_FULL',
    `the queues of all workers of model ${model.name} are full, ${most}; try again`,
    { retryAfterMs: FULL_RETRY_MS, quota: { subject: 'prefill jobs', description: most } },
  );
}

export function storeFull(bytes: number, tokens: number, model: string): ServingError {
  return new ServingError(
    'VALUE_STORE_FULL',
    `no value store has ${String(bytes)} bytes left for ${String(tokens)} tokens of model ${model}; ` +
      'lower max_prompt_tokens, or try again when other sessions have ended',
    {
      retryAfterMs: FULL_RETRY_MS,
      quota: {
        subject: 'value store bytes',
        description: `${String(bytes)} bytes wanted for ${String(tokens)} tokens`,
      },
    },
  );
}

function idOf({ memberId }: FleetMember): string {
  return memberId;
}
