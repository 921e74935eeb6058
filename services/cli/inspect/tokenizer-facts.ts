import { access } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { ServingError } from '../../domain/serving-error.js';
import { readModelJson } from './model-config.js';

export interface TokenizerFacts {
  /** As the file says: BPE, Unigram, ... */
  readonly kind: string;
  /** Ids, added tokens included. */
  readonly tokens: number;
  readonly specialTokens: readonly { readonly id: number; readonly text: string }[];
  readonly hasChatTemplate: boolean;
}

const TOKENIZER = z.object({
  model: z.object({ type: z.string().optional(), vocab: z.unknown() }),
  added_tokens: z
    .array(z.object({ id: z.int().min(0), content: z.string(), special: z.boolean() }))
    .optional(),
});

/**
 * Reads what tokenizer.json and tokenizer_config.json say.
 *
 * @returns null without a tokenizer.json
 * @throws ServingError MODEL_INVALID when a file is damaged
 */
export async function readTokenizerFacts(directory: string): Promise<TokenizerFacts | null> {
  const path = join(directory, 'tokenizer.json');
  if (!(await exists(path))) return null;
  const parsed = TOKENIZER.safeParse(await readModelJson(path));
  if (!parsed.success) {
    throw new ServingError('MODEL_INVALID', `${path} is not a tokenizer: ${parsed.error.message}`);
  }
  const { model, added_tokens: added = [] } = parsed.data;
  const ids = new Set([...vocabularyIds(model.vocab), ...added.map(({ id }) => id)]);
  return {
    kind: model.type ?? 'unknown',
    tokens: ids.size,
    specialTokens: added
      .filter(({ special }) => special)
      .map(({ id, content }) => ({ id, text: content })),
    hasChatTemplate: await hasChatTemplate(directory),
  };
}

/** BPE keeps a map from text to id; Unigram a list whose index is the id. */
function vocabularyIds(vocabulary: unknown): number[] {
  if (Array.isArray(vocabulary)) return [...vocabulary.keys()];
  if (typeof vocabulary !== 'object' || vocabulary === null) return [];
  return Object.values(vocabulary).filter((id): id is number => typeof id === 'number');
}

async function hasChatTemplate(directory: string): Promise<boolean> {
  if (await exists(join(directory, 'chat_template.jinja'))) return true;
  const path = join(directory, 'tokenizer_config.json');
  if (!(await exists(path))) return false;
  const config = z
    .object({ chat_template: z.unknown().nullish() })
    .safeParse(await readModelJson(path));
  return config.success && (config.data.chat_template ?? null) !== null;
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
