import { ServingError } from '../../domain/serving-error.js';
import type { FleetMember } from '../../domain/fleet.js';
import type { Reservation, SessionRecord, TurnRecord } from '../../domain/session-record.js';
import { neededPatterns } from '../../domain/sparse-policy.js';
import { sessionFingerprint } from '../../platform/fingerprint.js';
import {
  type Lane,
  type LaneNeeds,
  type Load,
  rankLanes,
  sessionBytes,
} from '../admission/choose-lane.js';
import type { DrivenSession } from './driven-session.js';
import { settledWithin } from './redis-gap.js';
import type { RecordChange } from './record-keeper.js';
import { linkSegments } from './reuse-segments.js';

/** What freeing the old lane may hold up. */
const FREE_PATIENCE_MS = 1_000;

/** Heartbeats alone say how busy members are. */
const NO_LOAD: Load = { reservedBytes: new Map(), placedSessions: new Map() };

/** A lane with memory for the session. */
export interface ReservedLane {
  readonly lane: Lane;
  readonly reservation: Reservation | null;
}

/**
 * Finds a lane for a session that lost its own, its present store first, and reserves memory there.
 *
 * @param present what the session has reserved; another store must have room for as many tokens
 * @param isLost members that are gone although their heartbeat has not run out yet
 * @returns null while there is none
 */
export async function findLane(
  session: DrivenSession,
  present: Reservation | null,
  isLost: (member: FleetMember) => boolean = () => false,
): Promise<ReservedLane | null> {
  const { deps, record, sessionId } = session;
  const { reservations } = deps.store;
  const members = await session.surely(async () => deps.fleet.members());
  const usable = members
    .filter((member) => !isLost(member))
    .map((member) => withOwnPlace(member, record));
  const preferStoreId = present?.storeId ?? null;
  const tokens = present?.tokens ?? 0;
  for (const lane of lanesOf(record, usable, preferStoreId)) {
    const { storeId, storeCapacityBytes, kvBytesPerToken } = lane.worker;
    if (storeId === preferStoreId) return { lane, reservation: present };
    const bytes = sessionBytes(tokens, kvBytesPerToken);
    const reserved = await session.surely(async () =>
      reservations.reserve(storeId, sessionId, bytes, storeCapacityBytes),
    );
    if (reserved) return { lane, reservation: { storeId, bytes, tokens } };
  }
  return null;
}

/** A full decode has a place for the session that it holds. */
function withOwnPlace(member: FleetMember, { attempt, decodeId }: SessionRecord): FleetMember {
  if (attempt === 0 || member.memberId !== decodeId) return member;
  return { ...member, activeSessions: Math.max(0, member.activeSessions - 1) };
}

function lanesOf(
  record: SessionRecord,
  members: readonly FleetMember[],
  preferStoreId: string | null,
): Lane[] {
  try {
    return rankLanes(needsOf(record), members, NO_LOAD, { preferStoreId });
  } catch (error) {
    if (error instanceof ServingError) return []; // nobody now; perhaps later
    throw error;
  }
}

function needsOf({ model, modelFingerprint, policy }: SessionRecord): LaneNeeds {
  return { model, modelFingerprint, patternsSha256: neededPatterns(policy) };
}

/**
 * Why nobody of a fleet takes a session: for what findLane() leaves at null.
 * @returns NO_WORKER, NO_DECODE or TOO_MANY_SESSIONS; null if there are lanes, all of which are full
 */
export function whyNoLane(
  record: SessionRecord,
  members: readonly FleetMember[],
): ServingError | null {
  try {
    rankLanes(needsOf(record), members, NO_LOAD);
    return null;
  } catch (error) {
    if (error instanceof ServingError) return error;
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
  const sameStore = reservation?.storeId === old.reservation?.storeId;
  // The upload may have ended meanwhile, and given back what it does not need.
  await session.change((now) => ({
    ...change,
    ...{ epoch, nextToken: 0, segments: [], origins: [], sealedTokens: 0 },
    lane: [lane.worker.memberId],
    decodeId: sameStore ? now.decodeId : lane.decode.memberId,
    reservation: reservation === old.reservation ? now.reservation : reservation,
    state: now.uploadClosed ? 'prefilling' : 'uploading',
    fingerprint: planFingerprint(old, lane.worker, epoch),
    turn: runningAgain(change.turn ?? now.turn),
  }));
  session.worker = lane.worker;
  if (!sameStore) session.decode = lane.decode;
  const turn = change.turn ?? old.turn;
  if (sameStore && keepTokens > 0) await bringAlong(session, old, lane.worker, turn, keepTokens);
  await settledWithin(FREE_PATIENCE_MS, freeOldLane(session, old, oldWorker));
}

async function bringAlong(
  session: DrivenSession,
  old: SessionRecord,
  worker: FleetMember,
  turn: TurnRecord,
  keepTokens: number,
): Promise<void> {
  const { sessionId, epoch } = session.record;
  const { promptReran, sparseWork } = turn;
  // A turn that decode appends keeps what the turns before it have run there.
  const cachedTokens =
    keepTokens < session.record.receivedTokens
      ? Math.min(turn.cachedTokens, keepTokens)
      : turn.cachedTokens;
  const linked = await linkSegments(session, worker.address, old, { sessionId, epoch }, keepTokens);
  if (linked === null) return;
  await session.change((now) => ({
    ...linked,
    nextToken: keepTokens,
    turn: { ...now.turn, cachedTokens, promptReran, sparseWork },
  }));
}

/** Unless it is brought along, what needed no prefill in this turn is run now. */
function runningAgain(turn: TurnRecord): TurnRecord {
  return { ...turn, cachedTokens: 0, promptReran: turn.beginToken > 0, sparseWork: null };
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
