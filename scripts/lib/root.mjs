import { accessSync, constants, mkdirSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The project's root folder; every script works from there, wherever it was called. */
export const ROOT = dirname(dirname(dirname(fileURLToPath(import.meta.url))));

/** Path of a program that an npm package installed. */
export function npmProgram(name) {
  return join(ROOT, 'node_modules', '.bin', name);
}

/**
 * Environment for build tools. They write caches under HOME; where that is unset or not writable
 * (containers, CI), they get a git-ignored folder of the project instead.
 */
export function toolEnvironment() {
  const home = process.env.HOME;
  if (home !== undefined && isWritableFolder(home)) return process.env;
  const fallback = join(ROOT, '.cache', 'home');
  mkdirSync(fallback, { recursive: true });
  return { ...process.env, HOME: fallback };
}

function isWritableFolder(path) {
  try {
    accessSync(path, constants.W_OK);
    return statSync(path).isDirectory();
  } catch {
    return false;
  }
}
