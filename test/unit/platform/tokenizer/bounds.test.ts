import assert from '../../../support/assert.js';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { ServingError } from '../../../../services/domain/serving-error.js';
import {
  loadModelTokenizer,
  type ModelTokenizer,
} from '../../../../services/platform/tokenizer/model-tokenizer.js';
import { PromptEncoder } from '../../../../services/platform/tokenizer/prompt-encoder.js';
import { MAX_UNBROKEN_UNITS } from '../../../../services/platform/tokenizer/text-encoder.js';
import { tokenizerFolders } from './tokenizer-folders.js';

const PART_BYTES = 65_536;

describe('long texts', () => {
  let tokenizer: ModelTokenizer;
  before(async () => {
    const [needle] = tokenizerFolders();
    assert.ok(needle !== undefined);
    tokenizer = await loadModelTokenizer(needle.name, needle.directory);
  });

  test('give their ids as they come, all but the last pieces', async () => {
    const encoder = new PromptEncoder(tokenizer, tokenizer.vocabSize);
    const bytes = Buffer.from('a line of words, and more of them.\n'.repeat(60_000)); // 2.1 MB
    let early = 0;
    let heldBackBytes = 0;
    for (let at = 0; at < bytes.length; at += PART_BYTES) {
      early += (await encoder.append({ kind: 'text', bytes: bytes.subarray(at, at + PART_BYTES) }))
        .length;
    }
    const late = (await encoder.close()).length;
    heldBackBytes = (bytes.length * late) / (early + late);
    assert.ok(heldBackBytes < PART_BYTES, `${String(heldBackBytes)} bytes waited for the end`);
  });

  test('without a place to break are refused at a limit, not kept without end', async () => {
    const encoder = new PromptEncoder(tokenizer, tokenizer.vocabSize);
    const bytes = Buffer.alloc(1 << 20, 0x2d); // dashes
    const upload = async (): Promise<void> => {
      for (let sent = 0; sent <= MAX_UNBROKEN_UNITS; sent += bytes.length) {
        assert.equal((await encoder.append({ kind: 'text', bytes })).length, 0);
      }
    };
    await assert.rejects(
      upload,
      (error) =>
        error instanceof ServingError &&
        error.code === 'BAD_REQUEST' &&
        error.message.includes('token_ids'),
    );
  });

  test('leave the event loop free', async () => {
    const encoder = new PromptEncoder(tokenizer, tokenizer.vocabSize);
    const bytes = Buffer.from('Call me Ishmael. Some years ago. '.repeat(30_000)); // 1 MB
    let ticks = 0;
    const ticking = setInterval(() => (ticks += 1), 1);
    await encoder.append({ kind: 'text', bytes });
    clearInterval(ticking);
    // One tick at least between two pieces of 16 Ki characters: nothing runs in one go.
    assert.ok(ticks >= 10, `${String(ticks)} ticks`);
  });
});

describe('a model folder', () => {
  const folder = mkdtempSync(join(tmpdir(), 'ls-tokenizer-'));
  after(() => {
    rmSync(folder, { recursive: true, force: true });
  });
  const refused = async (says: RegExp): Promise<void> => {
    await assert.rejects(
      loadModelTokenizer('m', folder),
      (error) =>
        error instanceof ServingError && error.code === 'MODEL_INVALID' && says.test(error.message),
    );
  };

  test('that is absent or empty is refused by the file that is missing', async () => {
    await refused(/tokenizer\.json is missing/);
    await assert.rejects(
      loadModelTokenizer('m', join(folder, 'nowhere')),
      /tokenizer\.json is missing/,
    );
  });

  const corrupt = [
    { name: 'cut short', text: '{"model": {"type": "BPE"' },
    { name: 'not a tokenizer', text: '{"hello": 1}' },
    { name: 'a list', text: '[]' },
    {
      name: 'of an unknown model type',
      text: '{"version":"1.0","model":{"type":"Nope","vocab":{}}}',
    },
    {
      name: 'of merges that are not in the vocabulary',
      text: '{"version":"1.0","model":{"type":"BPE","vocab":{"a":0},"merges":["x y"]}}',
    },
  ];
  for (const { name, text } of corrupt) {
    test(`with a tokenizer.json ${name} is refused by that file`, async () => {
      writeFileSync(join(folder, 'tokenizer.json'), text);
      await refused(/tokenizer\.json/);
    });
  }

  test('with a template that does not parse is refused', async () => {
    writeFileSync(
      join(folder, 'tokenizer.json'),
      '{"version":"1.0","added_tokens":[],"model":{"type":"BPE","vocab":{"a":0},"merges":[]}}',
    );
    writeFileSync(join(folder, 'tokenizer_config.json'), '{"chat_template": "{% for %}"}');
    await refused(/chat template/);
    writeFileSync(join(folder, 'tokenizer_config.json'), '{"chat_template": 5}');
    await refused(/tokenizer_config\.json/);
  });
});
