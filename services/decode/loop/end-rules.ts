import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { ServingError } from '../../domain/serving-error.js';

const tokenId = z.number().int().nonnegative();
const generationConfig = z.object({
  eos_token_id: z.union([tokenId, z.array(tokenId)]).nullish(),
});

/**
 * End-of-sequence ids of the model folder's generation_config.json, which lists more of them than
 * config.json for chat models. Empty when the file is absent.
 *
 * @throws ServingError MODEL_INVALID if the file cannot be read
 */
export async function generationEosTokenIds(modelDirectory: string): Promise<number[]> {
  const path = join(modelDirectory, 'generation_config.json');
  try {
    const { eos_token_id: ids } = generationConfig.parse(JSON.parse(await readFile(path, 'utf8')));
    return ids === null || ids === undefined ? [] : [ids].flat();
  } catch (cause) {
    if (cause instanceof Error && 'code' in cause && cause.code === 'ENOENT') return [];
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new ServingError('MODEL_INVALID', `cannot read ${path}: ${reason}`, {}, { cause });
  }
}
