import type { SessionRecord } from '../../domain/session-record.js';
import type { DriveDeps } from './drive-deps.js';
import { LeaseLost, type RecordKeeper } from './record-keeper.js';
import { retryWhileRedisIsAway } from './redis-gap.js';

/**
 * Writes a session's end down and gives back what was promised to it, however long Redis is away.
 * @param stopped gives up; the reservation then lasts until the record has expired
 * @throws LeaseLost if another driver has the session: it gives back then
 */
export async function leaveSession(
  keeper: RecordKeeper,
  state: SessionRecord['state'],
  deps: DriveDeps,
  stopped: AbortSignal,
): Promise<void> {
  const { records, reservations, kept } = deps.store;
  const { sessionId, reservation } = keeper.current;
  const surely = async <T>(operation: () => Promise<T>): Promise<T> =>
    retryWhileRedisIsAway(stopped, operation);
  try {
    await surely(async () => keeper.change({ state, keepUntilUnixMs: null }));
  } catch (error) {
    if (error instanceof LeaseLost || stopped.aborted) throw error;
    deps.log.warn({ err: error, sessionId }, 'the end of a session was not written');
  }
  if (reservation !== null) {
    const { storeId } = reservation;
    await surely(async () => reservations.release(storeId, sessionId));
    await surely(async () => kept.remove(storeId, sessionId));
  }
  await surely(async () => records.expireEnded(sessionId));
  await surely(async () => records.dropLease(sessionId, deps.driverId));
}
