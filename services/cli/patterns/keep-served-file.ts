import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { ServingError } from '../../domain/serving-error.js';
import { PATTERNS_FILE } from '../../platform/patterns/load-patterns.js';

/**
 * Refuses to write over the pattern file that the model is served with, under whatever name: a cluster
 * that is started later would take another one, and refuse sessions of those that run.
 *
 * @throws ServingError BAD_REQUEST if `outFile` is that file and it is there
 */
export async function keepServedFile(modelDirectory: string, outFile: string): Promise<void> {
  const served = join(modelDirectory, PATTERNS_FILE);
  const [there, out] = await Promise.all([served, outFile].map(identity));
  if (there === null || there !== out) return;
  throw new ServingError(
    'BAD_REQUEST',
    `${served} is there, and what the model is served with: ` +
      'give another file with --out, or --force to replace it',
  );
}

/** Of a file, by whatever path; null for none. */
async function identity(path: string): Promise<string | null> {
  const found = await stat(path).catch(() => null);
  return found === null ? null : `${String(found.dev)}:${String(found.ino)}`;
}
