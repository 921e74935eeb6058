import assert from '../../../../support/assert.js';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { tokenRanges } from '../../../../../services/cli/eval/run/token-ranges.js';

const TEXT = 'ab🐋cd';
/** a, b🐋 (in two tokens), c, d; in code points. */
const OFFSETS = [
  [0, 1],
  [1, 3],
  [1, 3],
  [3, 4],
  [4, 5],
] as const;

function ranges(begin: number, end: number): number[] {
  const [range] = tokenRanges(TEXT, OFFSETS, [{ id: 't', begin, end }]);
  return [range?.beginToken ?? -1, range?.endToken ?? -1];
}

describe('Token ranges of character spans', () => {
  test('a span of whole tokens has those tokens', () => {
    assert.deepEqual(ranges(0, 1), [0, 1]);
    assert.deepEqual(ranges(0, 6), [0, 5]);
  });

  test('a span inside a token has all tokens that spell it', () => {
    assert.deepEqual(ranges(1, 2), [1, 3]);
  });

  test('characters after a surrogate pair are counted as code points', () => {
    assert.deepEqual(ranges(4, 5), [3, 4]);
    assert.deepEqual(ranges(5, 6), [4, 5]);
  });

  test('a span that no token touches is refused by name', () => {
    assert.throws(() => ranges(6, 6), /target t, characters 6 to 6/);
  });

  test('spans that follow one another cover every token of their text', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 1, max: 5 }), { minLength: 1, maxLength: 20 }),
        fc.integer({ min: 1, max: 99 }),
        (widths, cut) => {
          let at = 0;
          const offsets = widths.map((width) => [at, (at += width)]);
          const text = 'x'.repeat(at);
          const middle = Math.max(1, Math.floor((at * cut) / 100));
          if (middle >= at) return;
          const [left, right] = tokenRanges(text, offsets, [
            { id: 'left', begin: 0, end: middle },
            { id: 'right', begin: middle, end: at },
          ]);
          assert.ok(left !== undefined && right !== undefined);
          assert.equal(left.beginToken, 0);
          assert.equal(right.endToken, widths.length);
          const shared = left.endToken - right.beginToken;
          assert.ok(shared === 0 || shared === 1, `they share ${shared} tokens`);
        },
      ),
    );
  });
});
