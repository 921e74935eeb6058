import { lstat, readdir, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { SESSION_ID_PATTERN } from '../../domain/session-record.js';
import { checkOwnFolder, ifPresent, removeIfEmpty, sessionFolder } from './session-folder.js';

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
 * Whether a session's folder is there and, unless the session is over, holds files so old.
 *
 * @throws ServingError BAD_REQUEST for a folder that is a link, or not ours alone
 */
export async function hasStaleFiles(
  directory: string,
  { sessionId, throughEpoch }: { readonly sessionId: string; readonly throughEpoch: number },
): Promise<boolean> {
  const folder = sessionFolder(directory, sessionId);
  const own = checkOwnFolder(folder).then(async () => readdir(folder));
  const names = await ifPresent(own, null);
  if (names === null || throughEpoch === Infinity) return names !== null;
  return names.some((name) => Number(SEGMENT_FILE.exec(name)?.[1] ?? NaN) <= throughEpoch);
}

/**
 * Unlinks a session's files of `throughEpoch` and older, and its folder if nothing is left: files
 * of a later plan, perhaps another worker's, stay, and so do folders: the store makes none there.
 *
 * @returns bytes that are free once nobody maps them: those of a file with another link stay
 * @throws ServingError BAD_REQUEST for a folder that is a link, or not ours alone: nothing is unlinked
 */
export async function removeSessionFiles(
  directory: string,
  sessionId: string,
  throughEpoch: number,
): Promise<number> {
  const folder = sessionFolder(directory, sessionId);
  let freedBytes = 0;
  const names = checkOwnFolder(folder).then(async () => readdir(folder));
  for (const name of await ifPresent(names, [])) {
    const epoch = Number(SEGMENT_FILE.exec(name)?.[1] ?? NaN);
    if (epoch > throughEpoch) continue;
    const path = join(folder, name);
    const file = await ifPresent(lstat(path), null);
    if (file === null || file.isDirectory()) continue;
    if (file.nlink === 1) freedBytes += file.size;
    await ifPresent(unlink(path), undefined);
  }
  await removeIfEmpty(folder);
  return freedBytes;
}
