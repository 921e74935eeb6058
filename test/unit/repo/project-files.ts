import { execFileSync, spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const ROOT = join(dirname(fileURLToPath(import.meta.url)), '..', '..', '..');

export function readProjectFile(path: string): string {
  return readFileSync(join(ROOT, path), 'utf8');
}

/** Files under a folder of the project, as paths relative to its root, sorted. */
export function projectFiles(folder: string): string[] {
  return readdirSync(join(ROOT, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(ROOT.length + 1))
    .sort();
}

/** Why a test that runs `program` must be skipped, or false. */
export function unlessThere(program: string): string | false {
  const { error } = spawnSync(program, ['--help'], { stdio: 'ignore' });
  return error === undefined ? false : `${program} is not installed`;
}

/** Output of a program that must succeed. */
export function outputOf(program: string, ...args: string[]): string {
  return execFileSync(program, args, { cwd: ROOT, encoding: 'utf8', stdio: 'pipe' });
}
