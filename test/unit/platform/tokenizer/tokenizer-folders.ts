import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Tokenizer } from 'tokenizers';

const ROOT = new URL('../../../../', import.meta.url);
const SHARED = fileURLToPath(new URL('../shared/data/tokenizers/', ROOT));

export interface TokenizerFolder {
  readonly name: string;
  readonly directory: string;
}

/** The embedded model's tokenizer, and those of other families where they are at hand. */
export function tokenizerFolders(): TokenizerFolder[] {
  const needle = { name: 'needle', directory: fileURLToPath(new URL('models/needle', ROOT)) };
  if (!existsSync(SHARED)) {
    console.log('skipped: tokenizers of other families (../shared/data/tokenizers is absent)');
    return [needle];
  }
  const others = readdirSync(SHARED)
    .filter((name) => existsSync(`${SHARED}${name}/tokenizer.json`))
    .map((name) => ({ name, directory: `${SHARED}${name}` }));
  return [needle, ...others];
}

/**
 * The library's own encoder of plain text: added tokens are left out of the file, nothing else is
 * changed, and a text is encoded in one call.
 */
export function oneShotEncoder(directory: string): (text: string) => Promise<number[]> {
  const json = JSON.parse(readFileSync(`${directory}/tokenizer.json`, 'utf8')) as object;
  const tokenizer = Tokenizer.fromString(JSON.stringify({ ...json, added_tokens: [] }));
  return async (text) => {
    const encoding = await tokenizer.encode(text, null, { addSpecialTokens: false });
    return encoding.getIds();
  };
}
