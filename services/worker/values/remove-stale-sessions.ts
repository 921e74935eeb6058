import { ServingError } from '../../domain/serving-error.js';
import { ENDED_STATES, type SessionRecord } from '../../domain/session-record.js';
import type { SessionRecords } from '../../domain/session-store.js';
import { removeSessionFiles, storedSessionIds } from './session-files.js';

/**
 * Removes what an earlier life of a worker left behind: files of sessions that are absent from
 * Redis or ended, and files of older epochs. Any doubt keeps the files: every record is asked for
 * before the first file goes, so an unreachable Redis (a rejection) removes nothing; a record that
 * this version cannot read, or a folder that is not ours alone, is reported and stays.
 *
 * @returns bytes removed
 * @throws ServingError REDIS_UNAVAILABLE
 */
export async function removeStaleSessions(
  directory: string,
  records: Pick<SessionRecords, 'load'>,
  onDoubt: (sessionId: string, error: ServingError) => void,
): Promise<number> {
  const sessionIds = await storedSessionIds(directory);
  const stale: { readonly sessionId: string; readonly throughEpoch: number }[] = [];
  for (const sessionId of sessionIds) {
    const record = await loadOrError(records, sessionId);
    if (record instanceof ServingError) {
      onDoubt(sessionId, record);
      continue;
    }
    const isOver = record === null || ENDED_STATES.has(record.state);
    stale.push({ sessionId, throughEpoch: isOver ? Infinity : record.epoch - 1 });
  }
  let removedBytes = 0;
  for (const { sessionId, throughEpoch } of stale) {
    try {
      removedBytes += await removeSessionFiles(directory, sessionId, throughEpoch);
    } catch (error) {
      if (!(error instanceof ServingError)) throw error;
      onDoubt(sessionId, error);
    }
  }
  return removedBytes;
}

/** The record, or why it is not readable. @throws ServingError REDIS_UNAVAILABLE */
async function loadOrError(
  records: Pick<SessionRecords, 'load'>,
  sessionId: string,
): Promise<SessionRecord | ServingError | null> {
  try {
    return await records.load(sessionId);
  } catch (error) {
    if (error instanceof ServingError && error.code === 'DATA_LOSS') return error;
    throw error;
  }
}
