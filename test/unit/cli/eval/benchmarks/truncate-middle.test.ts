import assert from '../../../../support/assert.js';
import { test } from 'node:test';
import fc from 'fast-check';
import { truncateMiddle } from '../../../../../services/cli/eval/benchmarks/truncate-middle.js';

/** A token for each character of the text, whatever plane it is from: halves are exact. */
const characters = async (text: string): Promise<number> =>
  Promise.resolve(Array.from(text).length);
/** Four bytes a token, so that a token may begin inside a character. */
const bytes = async (text: string): Promise<number> =>
  Promise.resolve(Math.ceil(Buffer.byteLength(text) / 4));

test('the first and the last half of the budget are kept, the question in the last', async () => {
  assert.deepEqual(await truncateMiddle('abcdefghijklmnop', '??', 10, characters), {
    document: 'abcdenop',
    cutCharacters: 8,
  });
});

test('what fits is not touched', async () => {
  assert.deepEqual(await truncateMiddle('abcdefgh', '??', 10, characters), {
    document: 'abcdefgh',
    cutCharacters: 0,
  });
});

test('a question longer than the last half leaves no room', async () => {
  assert.equal(await truncateMiddle('abcdefgh', '??????', 10, characters), null);
  assert.equal(
    await truncateMiddle('abcdefgh', '?????', 10, characters).then((cut) => cut?.document),
    'abcde',
  );
  assert.equal(await truncateMiddle('abcdefgh', '??', -5, characters), null);
});

const text = fc.string({ unit: fc.constantFrom('a', 'é', '世', '😀', ' '), maxLength: 120 });

test('property: what is left is a beginning and an end, fits, and splits no character', async () => {
  await fc.assert(
    fc.asyncProperty(
      text,
      fc.string({ minLength: 1, maxLength: 8 }),
      fc.integer({ min: 20, max: 60 }),
      fc.constantFrom(characters, bytes),
      async (document, question, budget, counter) => {
        const cut = await truncateMiddle(document, question, budget, counter);
        assert.ok(cut !== null);
        const tokens = (await counter(cut.document)) + (await counter(question));
        assert.ok(tokens <= budget, `${tokens} of ${budget}`);
        assert.equal(cut.document.length + cut.cutCharacters, document.length);
        assert.doesNotThrow(() => encodeURIComponent(cut.document), 'no half of a pair');
        const isSplit = Array.from({ length: cut.document.length + 1 }).some(
          (_, at) =>
            document.startsWith(cut.document.slice(0, at)) &&
            document.endsWith(cut.document.slice(at)),
        );
        assert.ok(isSplit);
        if (cut.cutCharacters > 0 && counter === characters) assert.ok(tokens >= budget - 1);
      },
    ),
    { numRuns: 200 },
  );
});
