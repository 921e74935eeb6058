import type { Stats } from 'node:fs';
import { open } from 'node:fs/promises';

/** A file of secrets that is larger is none. */
const MAX_BYTES = 2 ** 20;

/**
 * Reads a text file that holds secrets, if only those read it who must.
 * @throws Error that says what to change
 */
export async function readPrivateFile(path: string): Promise<string> {
  const file = await open(path, 'r');
  try {
    const stats = await file.stat();
    requirePrivate(path, stats, process.geteuid?.() ?? 0);
    if (stats.size > MAX_BYTES)
      throw new Error(`${path} is longer than ${String(MAX_BYTES)} bytes`);
    return await file.readFile('utf8');
  } finally {
    await file.close();
  }
}

/**
 * Ours must be ours alone (0600). One of root's, as a container's secrets are mounted, can only be
 * read through our group: there group may read, and nobody else do anything.
 *
 * @param uid who we are
 * @throws Error that says what to change
 */
export function requirePrivate(
  path: string,
  stats: Pick<Stats, 'mode' | 'uid' | 'isFile'>,
  uid: number,
): void {
  if (!stats.isFile()) throw new Error(`${path} is not a regular file`);
  const isMounted = stats.uid === 0 && uid !== 0;
  if (stats.uid !== uid && !isMounted) {
    throw new Error(`${path} belongs to another user; its owner decides who may call`);
  }
  const forbidden = isMounted ? 0o037 : 0o077;
  if ((stats.mode & forbidden) !== 0) {
    const mode = (stats.mode & 0o777).toString(8).padStart(4, '0');
    throw new Error(`${path} has mode ${mode} and is open to other users: chmod 600 ${path}`);
  }
}
