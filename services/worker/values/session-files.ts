import { readdir, rmdir, stat, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { ServingError } from '../../domain/serving-error.js';
import { SESSION_ID_PATTERN } from '../../domain/session-record.js';

/** `<epoch>-<stage>-<begin>-<end>.{k,v}`, with whatever suffix an unfinished file carries. */
const SEGMENT_FILE = /^(\d+)-\d+-\d+-\d+\./;

/*
 * Files of the value store, `<directory>/<session id>/<epoch>-...`, as the worker counts and
 * unlinks them: on the file thread, since freeing gigabytes of pages takes a while. A mapping
 * outlives its file. What another process unlinked at the same time is not an error.
 */

/** Ids of the sessions that have a folder in the store. */
export async function storedSessionIds(directory: string): Promise<string[]> {
  const names = await ifPresent(readdir(directory), []);
  return names.filter((name) => SESSION_ID_PATTERN.test(name));
}

/**
 * Unlinks a session's files of `throughEpoch` and older, and its folder if nothing is left: files
 * of a later plan, perhaps another worker's, stay.
 *
 * @returns bytes that the files had
 */
export async function removeSessionFiles(
  directory: string,
  sessionId: string,
  throughEpoch: number,
): Promise<number> {
  if (!SESSION_ID_PATTERN.test(sessionId)) {
    throw new ServingError('BAD_REQUEST', 'a session id is 32 lower-case hex digits');
  }
  const folder = join(directory, sessionId);
  let freedBytes = 0;
  for (const name of await ifPresent(readdir(folder), [])) {
    const epoch = Number(SEGMENT_FILE.exec(name)?.[1] ?? NaN);
    if (epoch > throughEpoch) continue;
    const path = join(folder, name);
    freedBytes += (await ifPresent(stat(path), null))?.size ?? 0;
    await ifPresent(unlink(path), undefined);
  }
  await removeIfEmpty(folder);
  return freedBytes;
}

async function removeIfEmpty(folder: string): Promise<void> {
  try {
    await rmdir(folder);
  } catch (error) {
    if (!['ENOENT', 'ENOTEMPTY', 'EEXIST'].includes(errorCode(error))) throw error;
  }
}

async function ifPresent<T, F>(found: Promise<T>, otherwise: F): Promise<T | F> {
  try {
    return await found;
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return otherwise;
    throw error;
  }
}

function errorCode(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : '';
}
