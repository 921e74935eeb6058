import { readFile, truncate } from 'node:fs/promises';
import { ServingError } from '../../../domain/serving-error.js';

/** A whole line of a JSON lines file. */
export interface JsonLine {
  readonly value: unknown;
}

/**
 * The lines of a file that is only appended to; none if there is no file. A last line without its
 * end, which a crash leaves, is cut off.
 *
 * @throws ServingError BAD_REQUEST naming a whole line that is no JSON object
 */
export async function readJsonLines(path: string): Promise<JsonLine[]> {
  const bytes = await readFile(path).catch((error: unknown) => {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return null;
    throw error;
  });
  if (bytes === null) return [];
  const end = bytes.lastIndexOf('\n') + 1;
  if (end < bytes.length) await truncate(path, end);
  const lines = bytes.toString('utf8', 0, end).split('\n').slice(0, -1);
  return lines.map((line, at) => ({ value: parseLine(line, `${path}:${String(at + 1)}`) }));
}

function parseLine(line: string, place: string): unknown {
  try {
    const value: unknown = JSON.parse(line);
    if (typeof value === 'object' && value !== null) return value;
  } catch {
    // Falls through to the one message.
  }
  throw new ServingError(
    'BAD_REQUEST',
    `${place} is not a line of a run: take the line out, or give another --out`,
  );
}
