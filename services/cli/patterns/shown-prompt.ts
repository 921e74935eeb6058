import { readFile } from 'node:fs/promises';
import { ServingError } from '../../domain/serving-error.js';
import { FragmentEncoder } from '../../platform/tokenizer/fragment-encoder.js';
import { loadModelTokenizer } from '../../platform/tokenizer/model-tokenizer.js';
import { benchPromptIds } from '../bench/bench-prompt.js';
import { describeError } from '../output/describe-error.js';

/**
 * The prompt that a picture is drawn of: a file's text, or the beginning of Moby Dick.
 *
 * @param tokens of the book; at most so many of the file, null for all
 * @throws ServingError BAD_REQUEST for a file that cannot be read
 */
export async function shownPromptIds(
  modelDirectory: string,
  file: string | null,
  tokens: number | null,
): Promise<Uint32Array> {
  if (file === null) return benchPromptIds(modelDirectory, tokens ?? 16_384);
  const text = await readFile(file, 'utf8').catch((error: unknown) => {
    throw new ServingError('BAD_REQUEST', `--prompt-file ${file}: ${describeError(error)}`);
  });
  const tokenizer = await loadModelTokenizer('patterns', modelDirectory);
  const encoder = new FragmentEncoder(tokenizer, null);
  const ids = [
    ...tokenizer.prefixIds,
    ...(await encoder.appendText(text)),
    ...(await encoder.flush()),
  ];
  return Uint32Array.from(ids.slice(0, tokens ?? ids.length));
}
