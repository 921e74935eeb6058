import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import {
  DEFAULT_HEAD_PATTERN,
  type HeadPattern,
  type ModelPatterns,
} from '../../domain/head-pattern.js';
import { ServingError } from '../../domain/serving-error.js';
import { parsePatterns } from './parse-patterns.js';

/** In the model's folder. */
export const PATTERNS_FILE = 'minference.json';
/** The largest published file has 0.3 MiB. */
const MAX_BYTES = 2 ** 23;

/** A model's patterns as a process read them at its start. */
export interface LoadedPatterns {
  readonly patterns: ModelPatterns;
  /** Of what the patterns say, however the file is written: 64 hex digits. */
  readonly sha256: string;
  /** Null: there is no file, and every head has the default pattern. */
  readonly path: string | null;
}

/**
 * Reads the patterns of a model: from `file`, or from minference.json in its folder if it is there.
 * @throws ServingError MODEL_INVALID saying what to change in which file
 */
export async function loadPatterns(
  modelDirectory: string,
  file: string | null,
): Promise<LoadedPatterns> {
  const path = file ?? join(modelDirectory, PATTERNS_FILE);
  const text = await readText(path, file !== null);
  if (text === null) return { patterns: [], sha256: patternsSha256([]), path: null };
  const patterns = parsePatterns(text, path);
  return { patterns, sha256: patternsSha256(patterns), path };
}

/**
 * Over the default and the heads whose pattern is another, in order: no file and an empty one are the
 * same, and a version with another default is told apart.
 */
export function patternsSha256(patterns: ModelPatterns): string {
  const heads = patterns.flatMap((layer, place) =>
    [...layer]
      .filter(([, pattern]) => !isDefault(pattern))
      .sort(([a], [b]) => a - b)
      .map(([head, pattern]) => [place, head, ...fieldsOf(pattern)]),
  );
  const said = [fieldsOf(DEFAULT_HEAD_PATTERN), ...heads];
  return createHash('sha256').update(JSON.stringify(said)).digest('hex');
}

function isDefault(pattern: HeadPattern): boolean {
  const [fields, other] = [fieldsOf(pattern), fieldsOf(DEFAULT_HEAD_PATTERN)];
  return fields.every((field, at) => field === other[at]);
}

function fieldsOf({ pattern, columns, distances, tiles }: HeadPattern): (string | number | null)[] {
  return [pattern, columns, distances, tiles];
}

/** @returns null if there is none and there need not be one */
async function readText(path: string, mustBeThere: boolean): Promise<string | null> {
  const refused = (why: string): ServingError =>
    new ServingError('MODEL_INVALID', `pattern file ${path}: ${why}`);
  try {
    // A named pipe would keep a plain open waiting for its writer.
    const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    try {
      const stats = await file.stat();
      if (!stats.isFile()) throw refused('is not a regular file; give a file');
      if (stats.size > MAX_BYTES) {
        throw refused(`is longer than ${String(MAX_BYTES)} bytes; give a pattern file`);
      }
      return await file.readFile('utf8');
    } finally {
      await file.close();
    }
  } catch (error) {
    if (error instanceof ServingError) throw error;
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' && !mustBeThere) return null;
    throw refused(`${message}; give a file that can be read`);
  }
}
