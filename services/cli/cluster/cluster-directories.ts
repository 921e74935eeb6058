import { randomBytes } from 'node:crypto';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  rmSync,
  rmdirSync,
  statSync,
} from 'node:fs';
import { tmpdir, userInfo } from 'node:os';
import { dirname, join } from 'node:path';
import { ServingError } from '../../domain/serving-error.js';

/** Folders that live exactly as long as one local cluster. */
export interface ClusterDirectories {
  /** `<pid>-<start time>-<random>`: says who owns the folders, even after a pid is used again. */
  readonly clusterId: string;
  /** Value store, in shared memory. */
  readonly store: string;
  /** Redis socket. */
  readonly temporary: string;
}

const FOLDER_PATTERN = /^(?:longshadow-)?cluster-(\d+)-(\d+)-[0-9a-f]+$/;

/** Base of all value stores of this user when no --store is given. */
export function defaultStoreBase(): string {
  return `/dev/shm/longshadow-${String(userInfo().uid)}`;
}

/**
 * Makes the folders of a new cluster and sweeps those whose cluster is dead.
 *
 * @throws ServingError BAD_REQUEST when the base cannot be used or belongs to someone else
 */
export function createClusterDirectories(storeBase: string): ClusterDirectories {
  makePrivateDirectory(storeBase);
  sweepDeadClusters(storeBase);
  sweepDeadClusters(tmpdir());
  const start = processStartTicks(process.pid);
  const clusterId = `${String(process.pid)}-${start ?? '0'}-${randomBytes(4).toString('hex')}`;
  const store = join(storeBase, `cluster-${clusterId}`);
  const temporary = join(tmpdir(), `longshadow-cluster-${clusterId}`);
  // Recursive: a cluster that ends just now may remove the empty base.
  mkdirSync(store, { mode: 0o700, recursive: true });
  mkdirSync(temporary, { mode: 0o700 });
  return { clusterId, store, temporary };
}

/** Removes a cluster's folders, and the base of the stores when it is empty. */
export function removeClusterDirectories({ store, temporary }: ClusterDirectories): void {
  rmSync(store, { recursive: true, force: true });
  rmSync(temporary, { recursive: true, force: true });
  try {
    rmdirSync(dirname(store));
  } catch {
    // Other clusters use it, or it is a folder of the user's.
  }
}

/** Removes folders of clusters in `base` whose process is gone. */
export function sweepDeadClusters(base: string): string[] {
  const removed: string[] = [];
  for (const name of listDirectory(base)) {
    const [, pid, start] = FOLDER_PATTERN.exec(name) ?? [];
    if (pid === undefined || start === undefined) continue;
    if (processStartTicks(Number(pid)) === start) continue;
    const path = join(base, name);
    if (statSync(path, { throwIfNoEntry: false })?.uid !== userInfo().uid) continue;
    rmSync(path, { recursive: true, force: true });
    removed.push(path);
  }
  return removed;
}

/** Start time of a process in clock ticks since boot; null if there is no such process. */
export function processStartTicks(pid: number): string | null {
  try {
    const stat = readFileSync(`/proc/${String(pid)}/stat`, 'utf8');
    // Field 22; the second field is a name in parentheses that may hold spaces.
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? null;
  } catch {
    return null;
  }
}

/** Processes that carry this cluster's id in their environment, as `pid name`. */
export function processesOfCluster(clusterId: string): string[] {
  const found: string[] = [];
  for (const pid of listDirectory('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      const environment = readFileSync(`/proc/${pid}/environ`, 'latin1').split('\0');
      if (!environment.includes(`${CLUSTER_ID_VARIABLE}=${clusterId}`)) continue;
      found.push(`${pid} ${readFileSync(`/proc/${pid}/comm`, 'utf8').trim()}`);
    } catch {
      // Gone meanwhile, or another user's.
    }
  }
  return found;
}

/** Marks every process of a cluster. */
export const CLUSTER_ID_VARIABLE = 'LONGSHADOW_CLUSTER_ID';

function makePrivateDirectory(path: string): void {
  try {
    makeDirectories(path);
    const found = lstatSync(path);
    const isOurs = found.uid === userInfo().uid && (found.mode & 0o022) === 0;
    if (found.isDirectory() && isOurs) return;
  } catch (error) {
    throw new ServingError(
      'BAD_REQUEST',
      `the value store ${path} cannot be made: ${error instanceof Error ? error.message : String(error)}; ` +
        'give another folder with --store',
    );
  }
  throw new ServingError(
    'BAD_REQUEST',
    `the value store ${path} is a link, another user's, or others may write to it; ` +
      'give another folder with --store',
  );
}

/** As mkdir -p. Node's recursive mkdirSync never returns where the kernel says ENOENT, as in /proc. */
function makeDirectories(path: string): void {
  if (existsSync(path)) return;
  const parent = dirname(path);
  if (parent !== path) makeDirectories(parent);
  try {
    mkdirSync(path, { mode: 0o700 });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error; // EEXIST: made meanwhile
  }
}

function listDirectory(path: string): string[] {
  try {
    return readdirSync(path);
  } catch {
    return [];
  }
}
