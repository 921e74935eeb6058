import type { Stats } from 'node:fs';
import { lstat, mkdir, rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import { ServingError } from '../../domain/serving-error.js';
import { SESSION_ID_PATTERN } from '../../domain/session-record.js';

/** Permission bits that files and folders of the store must not have. */
const OTHERS = 0o077;

/**
 * Path of a session's folder, which need not exist.
 *
 * @throws ServingError BAD_REQUEST for what is no session id, before it becomes a path
 */
export function sessionFolder(directory: string, sessionId: string): string {
  if (!SESSION_ID_PATTERN.test(sessionId)) {
    throw new ServingError('BAD_REQUEST', 'a session id is 32 lower-case hex digits');
  }
  return join(directory, sessionId);
}

/**
 * Makes a folder that only we can enter, unless it is there.
 *
 * @throws ServingError as checkOwnFolder; an Error with the system's code
 */
export async function makeOwnFolder(folder: string): Promise<void> {
  try {
    await mkdir(folder, { mode: 0o700 });
  } catch (error) {
    if (systemCode(error) !== 'EEXIST') throw error;
  }
  await checkOwnFolder(folder);
}

/**
 * @throws ServingError BAD_REQUEST for a link, another user's folder, or one that others can enter;
 *   an Error with ENOENT when it is not there
 */
export async function checkOwnFolder(folder: string): Promise<void> {
  const found = await lstat(folder);
  if (!found.isDirectory()) {
    throw new ServingError('BAD_REQUEST', `${folder} is not a folder, or a symbolic link to one`);
  }
  if (isOwn(found)) return;
  throw new ServingError('BAD_REQUEST', `${folder} is another user's, or open to other users`);
}

/** Whether a file or folder is ours, and closed to everyone else. */
export function isOwn({ uid, mode }: Stats): boolean {
  return uid === process.geteuid?.() && (mode & OTHERS) === 0;
}

/** Removes a folder unless it holds something, is gone, or is none. */
export async function removeIfEmpty(folder: string): Promise<void> {
  try {
    await rmdir(folder);
  } catch (error) {
    if (!['ENOENT', 'ENOTEMPTY', 'EEXIST', 'ENOTDIR'].includes(systemCode(error))) throw error;
  }
}

/** What is found, or something else where nothing is there. */
export async function ifPresent<T, F>(found: Promise<T>, otherwise: F): Promise<T | F> {
  try {
    return await found;
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return otherwise;
    throw error;
  }
}

/** ENOENT and the like; '' for what is no failure of the system. */
export function systemCode(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : '';
}
