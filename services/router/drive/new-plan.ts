import { ServingError } from '../../domain/serving-error.js';
import type { FleetMember } from '../../domain/fleet.js';
import type { Reservation, SessionRecord } from '../../domain/session-record.js';
import { sessionFingerprint } from '../../platform/fingerprint.js';
import { type Lane, rankLanes, sessionBytes } from '../admission/choose-lane.js';
import type { DrivenSession } from './driven-session.js';
import { settledWithin } from './redis-gap.js';
import type { RecordChange } from './record-keeper.js';
import { linkSegments } from './reuse-segments.js';

/** What freeing the old lane may hold up. */
const FREE_PATIENCE_MS = 1_000;

/** A lane with memory for the session. */
export interface ReservedLane {
  readonly lane: Lane;
  readonly reservation: Reservation | null;
}

/**
 * Finds a lane for a session that lost its own, its present store first, and reserves memory there.
 * @returns null while there is none
 */
export async function findLane(session: DrivenSession): Promise<ReservedLane | null> {
  const { deps, record, sessionId } = session;
  const { reservations } = deps.store;
  const members = await session.surely(async () => deps.fleet.members());
  const preferStoreId = record.reservation?.storeId ?? null;
  const tokens = record.reservation?.tokens ?? 0;
  for (const lane of lanesOf(record, members, preferStoreId)) {
    const { storeId, storeCapacityBytes, kvBytesPerToken } = lane.worker;
    if (storeId === preferStoreId) return { lane, reservation: record.reservation };
    const bytes = sessionBytes(tokens, kvBytesPerToken);
    const reserved = await session.surely(async () =>
      reservations.reserve(storeId, sessionId, bytes, storeCapacityBytes),
    );
    if (reserved) return { lane, reservation: { storeId, bytes, tokens } };
  }
  return null;
}

function lanesOf(
  record: SessionRecord,
  members: readonly FleetMember[],
  preferStoreId: string | null,
): Lane[] {
  try {
    const load = { reservedBytes: new Map(), placedSessions: new Map() };
    return rankLanes(record.model, record.modelFingerprint, members, load, { preferStoreId });
  } catch (error) {
    if (error instanceof ServingError) return []; // nobody now; perhaps later
    throw error;
  }
}

/**
 * Moves a session to a lane under a new epoch. What is finished comes along by links if the store
 * stays the same; otherwise it is run again.
 *
 * @param keepTokens finished segments up to here may be linked; 0: none is to be trusted
 */
export async function newPlan(
  session: DrivenSession,
  { lane, reservation }: ReservedLane,
  keepTokens: number,
  change: RecordChange = {},
): Promise<void> {
  const old = session.record;
  const oldWorker = session.worker;
  await removeJob(session);
  const epoch = old.epoch + 1;
  await session.change({
    ...change,
    ...{ epoch, reservation, nextToken: 0, segments: [], origins: [], sealedTokens: 0 },
    lane: [lane.worker.memberId],
    state: old.uploadClosed ? 'prefilling' : 'uploading',
    fingerprint: planFingerprint(old, lane.worker, epoch),
  });
  session.worker = lane.worker;
  const sameStore = reservation?.storeId === old.reservation?.storeId;
  if (!sameStore) session.decode = lane.decode;
  if (sameStore && keepTokens > 0) await bringAlong(session, old, lane.worker, keepTokens);
  await settledWithin(FREE_PATIENCE_MS, freeOldLane(session, old, oldWorker));
}

async function bringAlong(
  session: DrivenSession,
  old: SessionRecord,
  worker: FleetMember,
  keepTokens: number,
): Promise<void> {
  const { sessionId, epoch } = session.record;
  const linked = await linkSegments(session, worker.address, old, { sessionId, epoch }, keepTokens);
  if (linked !== null) await session.change({ ...linked, nextToken: keepTokens });
}

/** A worker that is gone has nothing to free; one that leaves or sleeps does it when it can. */
async function freeOldLane(
  session: DrivenSession,
  old: SessionRecord,
  oldWorker: FleetMember | null,
): Promise<void> {
  const { deps, worker, sessionId } = session;
  const jobs: Promise<unknown>[] = [];
  if (oldWorker !== null && oldWorker.memberId !== worker?.memberId) {
    jobs.push(deps.workers.releaseSession(oldWorker.address, sessionId, old.epoch));
  }
  const { reservation } = session.record;
  if (old.reservation !== null && old.reservation.storeId !== reservation?.storeId) {
    jobs.push(deps.store.reservations.release(old.reservation.storeId, sessionId));
  }
  for (const outcome of await Promise.allSettled(jobs)) {
    if (outcome.status === 'rejected') {
      deps.log.info({ err: outcome.reason as unknown, sessionId }, 'an old lane was not freed');
    }
  }
}

async function removeJob(session: DrivenSession): Promise<void> {
  const { currentJob, deps } = session;
  if (currentJob === null) return;
  const removed = deps.queues.remove(currentJob.workerId, currentJob.jobId);
  await settledWithin(FREE_PATIENCE_MS, removed);
  session.currentJob = null;
}

function planFingerprint(record: SessionRecord, worker: FleetMember, epoch: number): string {
  const { sessionId, modelFingerprint, policy } = record;
  const { layerBegin, layerEnd } = worker;
  const inputs = { modelFingerprint, policy, sessionId, epoch, layerBegin, layerEnd };
  return sessionFingerprint(inputs);
}
