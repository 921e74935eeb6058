import { join } from 'node:path';
import { Tokenizer } from 'tokenizers';
import {
  askForNeedle,
  makeNeedles,
  plantNeedles,
} from '../../../services/cli/demo/needle-prompt.js';
import { readBook } from '../../../services/cli/text/book.js';

const NEEDLES = 4;
const SEED = 1;
/** Less than a token has, so that the planted text stays short of the prompt. */
const CHARACTERS_A_TOKEN = 2.5;
/** More than a token has, so that the rest of the text fills the prompt. */
const MOST_CHARACTERS_A_TOKEN = 6;

/**
 * A prompt of the embedded model of exactly `tokens` ids: Moby Dick with needles, and a question
 * for one of them in the model's chat format. The next token is a number's first digit, which
 * nobody gets right who attends wrongly.
 */
export async function makePrompt(modelDirectory: string, tokens: number): Promise<Uint32Array> {
  const tokenizer = Tokenizer.fromFile(join(modelDirectory, 'tokenizer.json'));
  const idsOf = async (text: string): Promise<number[]> =>
    (await tokenizer.encode(text, null, { addSpecialTokens: false })).getIds();
  const book = readBook();
  const characters = Math.floor(tokens * CHARACTERS_A_TOKEN);
  const needles = makeNeedles(SEED, NEEDLES);
  const asked = needles[NEEDLES / 2];
  if (asked === undefined) throw new Error('a prompt needs a needle');
  const question = askForNeedle('', asked).at(-1)?.content ?? '';
  const end = await idsOf(
    `${plantNeedles(book, characters, needles)}\n<|user|>${question}<|assistant|>`,
  );
  const missing = tokens - end.length;
  const filler = await idsOf(
    book.slice(characters, characters + Math.max(missing, 0) * MOST_CHARACTERS_A_TOKEN),
  );
  if (missing < 0 || filler.length < missing) {
    throw new Error(`no prompt of ${tokens} tokens: choose 1,024 to 131,072`);
  }
  return Uint32Array.from([...filler.slice(0, missing), ...end]);
}
