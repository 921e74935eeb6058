import { ServingError } from '../../domain/serving-error.js';
import { ENDED_STATES, type SessionRecord } from '../../domain/session-record.js';
import type { SessionRecords } from '../../domain/session-store.js';
import { removeSessionFiles, storedSessionIds } from './session-files.js';

/** Files of a session that nothing needs any more. */
export interface StaleFiles {
  readonly sessionId: string;
  /** The last epoch of them; Infinity if the session is over. */
  readonly throughEpoch: number;
}

type OnDoubt = (sessionId: string, error: ServingError) => void;

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
  onDoubt: OnDoubt,
): Promise<number> {
  const sessionIds = await storedSessionIds(directory);
  return removeStaleFiles(directory, await findStale(sessionIds, records, onDoubt), onDoubt);
}

/**
 * What Redis says of sessions that have a folder in the store; the files need not be there.
 *
 * @param onDoubt told of a record that this version cannot read
 * @throws ServingError REDIS_UNAVAILABLE
 */
export async function findStale(
  sessionIds: readonly string[],
  records: Pick<SessionRecords, 'load'>,
  onDoubt: OnDoubt,
): Promise<StaleFiles[]> {
  const stale: StaleFiles[] = [];
  for (const sessionId of sessionIds) {
    const record = await loadOrError(records, sessionId);
    if (record instanceof ServingError) {
      onDoubt(sessionId, record);
      continue;
    }
    const isOver = record === null || ENDED_STATES.has(record.state);
    stale.push({ sessionId, throughEpoch: isOver ? Infinity : record.epoch - 1 });
  }
  return stale;
}

/**
 * @param onDoubt told of a folder that is not ours alone, which stays
 * @returns bytes removed
 */
export async function removeStaleFiles(
  directory: string,
  stale: readonly StaleFiles[],
  onDoubt: OnDoubt,
): Promise<number> {
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
