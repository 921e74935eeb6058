import { loadModelTokenizer } from '../../platform/tokenizer/model-tokenizer.js';
import { FragmentEncoder } from '../../platform/tokenizer/fragment-encoder.js';
import { readBook } from '../text/book.js';

/** Characters that are encoded at once. */
const PIECE_CHARACTERS = 65_536;

/**
 * The first `tokens` ids of a book, which begins anew where it ends.
 * @param stop rejects with its reason
 */
export async function benchPromptIds(
  modelDirectory: string,
  tokens: number,
  stop?: AbortSignal,
): Promise<Uint32Array> {
  const tokenizer = await loadModelTokenizer('bench', modelDirectory);
  const encoder = new FragmentEncoder(tokenizer, null);
  const book = readBook();
  const ids: number[] = [...tokenizer.prefixIds];
  for (let at = 0; ids.length < tokens; at += PIECE_CHARACTERS) {
    if (at >= book.length) at = 0;
    stop?.throwIfAborted();
    ids.push(...(await encoder.appendText(book.slice(at, at + PIECE_CHARACTERS))));
  }
  return Uint32Array.from(ids.slice(0, tokens));
}
