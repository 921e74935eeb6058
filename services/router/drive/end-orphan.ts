import type { ServingError } from '../../domain/serving-error.js';
import { ENDED_STATES, type SessionRecord } from '../../domain/session-record.js';
import type { DriveDeps } from './drive-deps.js';
import { freeSession } from './free-session.js';
import { leaveSession } from './leave-session.js';
import { RecordKeeper } from './record-keeper.js';

/**
 * Ends a session whose router is gone: takes its lease, frees its memory, writes its end down.
 * @param error what its events say; null for a kept session, whose last turn ended well
 * @returns false, with nothing done, if a router holds the lease
 */
export async function endOrphan(
  sessionId: string,
  error: ServingError | null,
  deps: DriveDeps,
  stopped: AbortSignal,
): Promise<boolean> {
  const { records, events } = deps.store;
  if (!(await records.takeLease(sessionId, deps.driverId))) return false;
  const record = await records.load(sessionId);
  if (record === null || ENDED_STATES.has(record.state)) {
    await records.dropLease(sessionId, deps.driverId);
    return true;
  }
  if (error !== null) {
    const { code, message, details } = error;
    await events.append(sessionId, record.epoch, { type: 'error', code, message, details });
  }
  await freeMembers(record, deps);
  const keeper = new RecordKeeper(records, deps.driverId, record);
  await leaveSession(keeper, error === null ? 'finished' : 'cancelled', deps, stopped);
  return true;
}

async function freeMembers(record: SessionRecord, deps: DriveDeps): Promise<void> {
  const { sessionId, epoch, lane, decodeId } = record;
  const members = await deps.fleet.members();
  const worker = members.find(({ memberId }) => lane.includes(memberId)) ?? null;
  const decode = members.find(({ memberId }) => memberId === decodeId) ?? null;
  await freeSession({ sessionId, epoch, worker, decode }, deps);
}
