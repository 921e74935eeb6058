import { open, readFile, rm } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { z } from 'zod';
import { ServingError } from '../../../domain/serving-error.js';

/** Says who runs in a folder. */
export const LOCK_FILE = 'run.lock';

const HOLDER = z.object({ pid: z.int().positive(), host: z.string() });
type Holder = z.infer<typeof HOLDER>;
/** Two that find the same dead run's lock at once take turns. */
const MOST_TRIES = 3;
const SETTLE_MS = 200;

/** Locks of this process, whose id may also be that of a dead one of another container. */
const held = new Set<string>();

/**
 * Keeps two runs from writing into one folder at a time. A lock that a dead process left is taken over.
 *
 * @returns frees the folder
 * @throws ServingError BAD_REQUEST naming the process that runs there
 */
export async function lockFolder(folder: string): Promise<() => Promise<void>> {
  const path = join(folder, LOCK_FILE);
  for (let tries = 1; !(await tryToLock(path)); tries += 1) {
    const holder = await holderOf(path);
    if (tries >= MOST_TRIES || (holder !== null && mayLive(path, holder)))
      throw inUse(path, holder);
    // Its process may be about to say who it is, or another one about to take it over as well.
    await delay(SETTLE_MS * Math.random());
    if (isSame(await holderOf(path), holder)) await rm(path, { force: true });
  }
  held.add(path);
  return async () => {
    if (held.delete(path)) await rm(path, { force: true });
  };
}

async function tryToLock(path: string): Promise<boolean> {
  const file = await open(path, 'wx').catch((error: unknown) => {
    if (error instanceof Error && 'code' in error && error.code === 'EEXIST') return null;
    throw error;
  });
  if (file === null) return false;
  await file.writeFile(`${JSON.stringify({ pid: process.pid, host: hostname() })}\n`);
  await file.close();
  return true;
}

/** Null for a file that says nothing: its process died before it could. */
async function holderOf(path: string): Promise<Holder | null> {
  try {
    return HOLDER.parse(JSON.parse(await readFile(path, 'utf8')));
  } catch {
    return null;
  }
}

function isSame(one: Holder | null, other: Holder | null): boolean {
  return one?.pid === other?.pid && one?.host === other?.host;
}

function mayLive(path: string, { pid, host }: Holder): boolean {
  if (host !== hostname()) return true; // nobody here can tell
  if (pid === process.pid) return held.has(path);
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    // EPERM: it lives, as another user's.
    return error instanceof Error && 'code' in error && error.code === 'EPERM';
  }
}

function inUse(path: string, holder: Holder | null): ServingError {
  const who =
    holder === null ? 'another process' : `process ${String(holder.pid)} on ${holder.host}`;
  return new ServingError(
    'BAD_REQUEST',
    `${who} runs in the folder of --out; wait for it, give another --out, or remove ${path} if it runs no more`,
  );
}
