import { existsSync } from 'node:fs';
import { processesOfCluster, type ClusterDirectories } from '../cluster/cluster-directories.js';

/** What a stopped cluster left on the machine, in words; empty when it left nothing. */
export function findLeftovers(directories: ClusterDirectories, pids: readonly number[]): string[] {
  return [
    ...pids.filter(isAlive).map((pid) => `process ${String(pid)}`),
    ...processesOfCluster(directories.clusterId).map((process) => `process ${process}`),
    ...[directories.store, directories.temporary].filter((path) => existsSync(path)),
  ];
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
