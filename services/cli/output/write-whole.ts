import { open, rename, rm } from 'node:fs/promises';
import { ServingError } from '../../domain/serving-error.js';
import { describeError } from './describe-error.js';

/**
 * Writes a file so that a reader, or a machine that fails, finds the old one or the new one.
 * @throws ServingError BAD_REQUEST for what cannot be written
 */
export async function writeWhole(path: string, text: string): Promise<void> {
  const temporary = `${path}.new`;
  try {
    const file = await open(temporary, 'w');
    try {
      await file.writeFile(text);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => undefined);
    const why = describeError(error);
    throw new ServingError('BAD_REQUEST', `${path} cannot be written: ${why}; give another file`);
  }
}
