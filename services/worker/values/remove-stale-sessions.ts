import { ENDED_STATES } from '../../domain/session-record.js';
import type { SessionRecords } from '../../domain/session-store.js';
import { removeSessionFiles, storedSessionIds } from './session-files.js';

/**
 * Removes what an earlier life of a worker left behind: files of sessions that are absent from
 * Redis or ended, and files of older epochs. Any doubt keeps the files: every record is asked for
 * before the first file goes, so an unreachable Redis (a rejection) removes nothing.
 *
 * @returns bytes removed
 * @throws ServingError REDIS_UNAVAILABLE
 */
export async function removeStaleSessions(
  directory: string,
  records: Pick<SessionRecords, 'load'>,
): Promise<number> {
  const sessionIds = await storedSessionIds(directory);
  const stale: { readonly sessionId: string; readonly throughEpoch: number }[] = [];
  for (const sessionId of sessionIds) {
    const record = await records.load(sessionId);
    const isOver = record === null || ENDED_STATES.has(record.state);
    stale.push({ sessionId, throughEpoch: isOver ? Infinity : record.epoch - 1 });
  }
  let removedBytes = 0;
  for (const { sessionId, throughEpoch } of stale) {
    removedBytes += await removeSessionFiles(directory, sessionId, throughEpoch);
  }
  return removedBytes;
}
