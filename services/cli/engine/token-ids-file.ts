import { readFile } from 'node:fs/promises';
import { ServingError } from '../../domain/serving-error.js';

/**
 * Reads token ids from JSON: an array, or an object with an array `ids`.
 *
 * @throws ServingError BAD_REQUEST when the file cannot be read or is something else,
 *   EMPTY_PROMPT for no ids, TOKEN_ID_OUT_OF_RANGE for a number that is not an unsigned 32-bit id
 */
export async function readTokenIds(path: string): Promise<number[]> {
  const value = await readJson(path);
  const ids: unknown = Array.isArray(value) ? value : (value as { ids?: unknown } | null)?.ids;
  if (!Array.isArray(ids)) {
    throw new ServingError(
      'BAD_REQUEST',
      `${path}: want a JSON array of token ids or {"ids": [...]}`,
    );
  }
  if (ids.length === 0) throw new ServingError('EMPTY_PROMPT', `${path}: the list of ids is empty`);
  return ids.map((id: unknown, index) => {
    if (typeof id === 'number' && Number.isInteger(id) && id >= 0 && id <= 0xffff_ffff) return id;
    throw new ServingError(
      'TOKEN_ID_OUT_OF_RANGE',
      `${path}: ids[${String(index)}] is ${JSON.stringify(id)}; want an integer from 0`,
    );
  });
}

/** @throws ServingError BAD_REQUEST when the file cannot be read, is not UTF-8 or not JSON */
export async function readJson(path: string): Promise<unknown> {
  try {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(await readFile(path));
    return JSON.parse(text) as unknown;
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new ServingError('BAD_REQUEST', `${path}: ${why}`);
  }
}
