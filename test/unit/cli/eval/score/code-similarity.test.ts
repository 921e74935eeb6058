import assert from '../../../../support/assert.js';
import { test } from 'node:test';
import fc from 'fast-check';
import { codeSimilarity } from '../../../../../services/cli/eval/score/code-similarity.js';
import { sequenceRatio } from '../../../../../services/cli/eval/score/sequence-ratio.js';

/** difflib.SequenceMatcher(None, first, second).ratio() of Python 3.11. */
const DIFFLIB: readonly (readonly [first: string, second: string, ratio: number])[] = [
  ['    return self.name', 'return self.name', 0.8888888888888888],
  ['for i in range(10):', 'for (int i = 0; i < 10; i++) {', 0.4489795918367347],
  ['', '', 1],
  ['a', '', 0],
  ['abcd', 'bcde', 0.75],
  ['private Thread currentThread;', 'private volatile Thread currentThread;', 0.8656716417910447],
  ['ababab', 'bababa', 0.8333333333333334],
  ['x = 😀 + 1', 'x = 😀+ 1', 0.9411764705882353],
  ['qabxcd', 'abycdf', 0.6666666666666666],
];

test("the ratio is difflib's, characters outside the first plane counted once", () => {
  for (const [first, second, ratio] of DIFFLIB) {
    assert.equal(sequenceRatio(first, second), ratio, `${first} | ${second}`);
  }
});

test('from 200 characters on, frequent characters begin no match, as in difflib', () => {
  const line = 'abcdefgh '.repeat(24);
  assert.equal(line.length, 216);
  assert.equal(sequenceRatio(line.slice(1), line), 0, 'every character is over 1 % of the line');
  const rare = Array.from({ length: 210 }, (_, n) => String.fromCodePoint(0x4e00 + n)).join('');
  assert.equal(sequenceRatio(rare.slice(0, 100) + rare.slice(105), rare), 0.9879518072289156);
});

test('of 200 characters, 3 equal ones are rare and 4 are frequent, as in difflib', () => {
  const lineWith = (count: number): string =>
    Array.from({ length: 200 }, (_, n) =>
      n % 50 === 25 && n < 50 * count ? 'X' : String.fromCodePoint(0x4e00 + n),
    ).join('');
  assert.equal(sequenceRatio('X', lineWith(3)), 2 / 201);
  assert.equal(sequenceRatio('X', lineWith(4)), 0);
});

test('of a prediction the first line counts that is no comment and no fence', () => {
  const reference = '        return total';
  assert.equal(codeSimilarity(`\n\n${reference}\nmore`, reference), 1);
  assert.equal(codeSimilarity(`\`\`\`python\n# sum up\n// or so\n${reference}`, reference), 1);
  assert.equal(codeSimilarity('# only a comment', reference), 0);
});

test('the ratio is a whole number of per cent, halves to the even one', () => {
  // 2 of 16 characters match: 12.5 %, which Python rounds to 12.
  assert.equal(sequenceRatio('axxxxxxx', 'yyyyyyya'), 0.125);
  assert.equal(codeSimilarity('axxxxxxx', 'yyyyyyya'), 0.12);
  assert.equal(codeSimilarity('for i in range(10):', 'for (int i = 0; i < 10; i++) {'), 0.45);
});

test('property: the ratio is within [0, 1], 1 for equal lines, and whole hundredths', () => {
  const line = fc.string({ unit: fc.constantFrom('a', 'b', '(', ' ', '世'), maxLength: 40 });
  fc.assert(
    fc.property(line, line, (first, second) => {
      const similarity = codeSimilarity(first, second);
      assert.ok(similarity >= 0 && similarity <= 1);
      assert.equal(Math.round(similarity * 100) / 100, similarity);
      assert.equal(codeSimilarity(first, first), 1);
    }),
    { numRuns: 200 },
  );
});
