import assert from '../../support/assert.js';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { Tokenizer } from 'tokenizers';
import { Detokenizer, loadTokenDecoder } from '../../../services/decode/loop/detokenize.js';

const SHARED = '../shared/data/tokenizers';

function folders(): string[] {
  if (!existsSync(SHARED)) {
    process.stdout.write(`skipped: ${SHARED} is absent, only models/needle is tested\n`);
    return ['models/needle'];
  }
  const shared = readdirSync(SHARED).map((name) => join(SHARED, name));
  return ['models/needle', ...shared.filter((dir) => existsSync(join(dir, 'tokenizer.json')))];
}

/** Text whose pieces are hard: several bytes a character, joined characters, spaces, line ends. */
const HARD_TEXT = ' a  b\n\n\t naïve 中文字符 👩‍👩‍👧 Ω≈ç 한국어 \u{1D11E} end. 😀😀';

for (const folder of folders()) {
  test(`pieces of ${folder} add up to the text of all ids`, async () => {
    const decoder = await loadTokenDecoder(folder);
    const tokenizer = Tokenizer.fromFile(join(folder, 'tokenizer.json'));
    const hardIds = (await tokenizer.encode(HARD_TEXT, null, { addSpecialTokens: false })).getIds();
    const vocabSize = tokenizer.getVocabSize(true);
    const ids = fc.array(
      fc.oneof(
        fc.integer({ min: 0, max: vocabSize - 1 }),
        fc.integer({ min: 0, max: Math.min(vocabSize, 300) - 1 }), // bytes live here
        fc.constantFrom(...hardIds),
      ),
      { maxLength: 60 },
    );
    await fc.assert(
      fc.asyncProperty(ids, async (sampled) => {
        const detokenizer = new Detokenizer(decoder);
        const pieces = sampled.map((id) => detokenizer.push(id));
        assert.equal(pieces.join('') + detokenizer.flush(), await tokenizer.decode(sampled, true));
      }),
      { numRuns: 300 },
    );
  });

  test(`text of ${folder} is shown as its tokens come, in whole characters`, async () => {
    const decoder = await loadTokenDecoder(folder);
    const tokenizer = Tokenizer.fromFile(join(folder, 'tokenizer.json'));
    const ids = (await tokenizer.encode(HARD_TEXT, null, { addSpecialTokens: false })).getIds();
    const detokenizer = new Detokenizer(decoder);
    const pieces = ids.map((id) => detokenizer.push(id));
    // encodeURIComponent throws on half a character.
    assert.ok(pieces.every((piece) => !/%EF%BF%BD/.test(encodeURIComponent(piece))));
    // Plain words are never held back.
    assert.ok(pieces.filter((piece) => piece !== '').length >= 8);
    assert.equal(pieces.join('') + detokenizer.flush(), await tokenizer.decode(ids, true));
  });
}
