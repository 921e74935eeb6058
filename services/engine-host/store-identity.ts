import { readFile, stat } from 'node:fs/promises';
import { hostname } from 'node:os';

/**
 * Names a value store's directory such that two processes get the same name exactly when they can
 * map each other's files: the kernel (its boot id, the same in all containers of a host) and the
 * directory's device and inode (the same through every mount of it).
 */
export async function storeIdentity(directory: string): Promise<string> {
  const { dev, ino } = await stat(directory, { bigint: true });
  return `${await kernelIdentity()}-${dev.toString(16)}-${ino.toString(16)}`;
}

async function kernelIdentity(): Promise<string> {
  try {
    return (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim();
  } catch {
    return hostname();
  }
}
