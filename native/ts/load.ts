import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Addon } from './addon.js';

let loaded: Addon | undefined;

/**
 * The add-on, loaded at its first use.
 *
 * @throws Error that says what to run when it was not built or cannot be loaded
 */
export function loadAddon(): Addon {
  loaded ??= load(addonPath(process.env, dirname(fileURLToPath(import.meta.url))));
  return loaded;
}

/**
 * Where the add-on is: LONGSHADOW_ADDON if set, else in the build folder of the package that
 * `directory` lies in (its sources or its compiled `dist`).
 */
export function addonPath(
  env: Readonly<Record<string, string | undefined>>,
  directory: string,
): string {
  const chosen = env['LONGSHADOW_ADDON'];
  if (chosen !== undefined && chosen !== '') return chosen;
  return join(packageRoot(directory), 'build', 'Release', 'addon.node');
}

function packageRoot(directory: string): string {
  for (let folder = directory; ; folder = dirname(folder)) {
    if (packageName(join(folder, 'package.json')) === 'longshadow') return folder;
    if (folder === dirname(folder)) {
      throw new Error(`no package.json of longshadow at or above ${directory}`);
    }
  }
}

function packageName(path: string): string | undefined {
  if (!existsSync(path)) return undefined;
  const content: unknown = JSON.parse(readFileSync(path, 'utf8'));
  if (typeof content !== 'object' || content === null || !('name' in content)) return undefined;
  return typeof content.name === 'string' ? content.name : undefined;
}

function load(path: string): Addon {
  if (!existsSync(path)) {
    throw new Error(`the native add-on is not at ${path}: run \`npm run build\``);
  }
  // libgomp, which oneDNN loads, reads this once: its threads must block between products, since
  // spinning ones would take the cores from the engine's own threads.
  process.env['OMP_WAIT_POLICY'] ??= 'passive';
  try {
    return createRequire(import.meta.url)(path) as Addon;
  } catch (error) {
    throw new Error(`cannot load the native add-on ${path}: run \`npm run build\` again`, {
      cause: error,
    });
  }
}
