import assert from '../../../../support/assert.js';
import { test } from 'node:test';
import fc from 'fast-check';
import { longestCommonSubsequence } from '../../../../../services/cli/eval/score/longest-common-subsequence.js';
import { rougeL, rougeLChinese } from '../../../../../services/cli/eval/score/rouge-l.js';
import { rougeLsum } from '../../../../../services/cli/eval/score/rouge-lsum.js';

function near(got: number, want: number): void {
  assert.ok(Math.abs(got - want) < 1e-12, `${got} for ${want}`);
}

test("the example of the Python package's own page has the F value printed there", () => {
  const hypothesis =
    "the #### transcript is a written version of each day 's cnn student news program use this transcript to he lp students with reading comprehension and vocabulary use the weekly newsquiz to test your knowledge of storie s you saw on cnn student news";
  const reference =
    "this page includes the show transcript use the transcript to help students with reading comprehension and vocabulary at the bottom of the page , comment for a chance to be mentioned on cnn student news . you must be a teac her or a student age # # or older to request a mention on the cnn student news roll call . the weekly newsquiz tests students ' knowledge of even ts in the news";
  near(rougeL(hypothesis, reference), 0.44705881864636676);
});

test('LongBench counts a word once however often both texts have it', () => {
  // Different words: {a, b} and {a, b, c}; the subsequence "a b a" gives {a, b}: p 1, r 2/3.
  near(rougeL('a b a', 'a b a c'), (2 * (2 / 3)) / (1 + 2 / 3 + 1e-8));
});

test('LongBench ends sentences at full stops and gathers their common words', () => {
  // "x y" against "y x" alone shares one word; as sentences "x." and "y" both are found.
  near(rougeL('x. y', 'y x'), (2 * 1) / (2 + 1e-8));
  near(rougeL('x y', 'y x'), (2 * 0.25) / (1 + 1e-8));
});

test('of equally long subsequences each package takes its own, which its union shows', () => {
  // "a b" and "b a" share a or b. The package rouge takes b, so that the second sentence adds nothing.
  near(rougeL('b a. b', 'a b'), (2 * 0.25) / (1 + 1e-8));
  // rouge_score takes a, and the second line adds b: 2 hits of 3 and 2 words.
  near(rougeLsum('b a\nb', 'a b'), 4 / 5);
});

test('a prediction without words scores 0 and stops nothing', () => {
  for (const empty of ['', '.', '...']) {
    assert.equal(rougeL(empty, 'some words'), 0);
    assert.equal(rougeL('some words', empty), 0);
    assert.equal(rougeLsum(empty, 'some words'), 0);
  }
});

test('a sentence of thousands of words is scored, where the published package recurses too deep', () => {
  const words = Array.from({ length: 3_000 }, (_, n) => `w${n}`).join(' ');
  near(rougeL(words, words), 2 / (2 + 1e-8));
});

test('Chinese ROUGE-L is over words, not characters', () => {
  // 北京 | 清华大学 against 北京 | 大学: one of two words each.
  near(rougeLChinese('北京清华大学', '北京大学生'), rougeL('北京 清华大学', '北京 大学生'));
});

test("rougeLsum gives the example of Lin's paper its union: w1 w2 w3 w5", () => {
  // Hits 4 of 5 words of the reference and of 10 predicted words: p 0.4, r 0.8.
  near(rougeLsum('w1 w2 w6 w7 w8\nw1 w3 w8 w9 w5', 'w1 w2 w3 w4 w5'), (2 * 0.4 * 0.8) / 1.2);
});

test('rougeLsum takes lines for sentences, whatever their order, and ignores case and marks', () => {
  assert.equal(
    rougeLsum('Second sentence!\nFIRST sentence.', 'First sentence.\nsecond, sentence'),
    1,
  );
});

test('rougeLsum never counts a word more often than both texts have it', () => {
  near(rougeLsum('a', 'a\na'), (2 * 1) / (1 + 2));
});

const words = fc.array(fc.constantFrom<string>('a', 'b', 'c', 'd', 'e'), { maxLength: 12 });

test('property: a longest common subsequence is one of both lists, and no other is longer', () => {
  fc.assert(
    fc.property(words, words, (first, second) => {
      const dropFirst = longestCommonSubsequence(first, second, 'drop-first');
      const dropSecond = longestCommonSubsequence(first, second, 'drop-second');
      assert.equal(dropFirst.length, dropSecond.length);
      assert.equal(dropFirst.length, longestByTrying(first, second));
      for (const positions of [dropFirst, dropSecond]) {
        assert.deepEqual(
          positions,
          [...new Set(positions)].sort((a, b) => a - b),
        );
        let from = 0;
        for (const at of positions) {
          const found = second.indexOf(first[at] ?? '', from);
          assert.ok(found >= from, 'in the order of the second list too');
          from = found + 1;
        }
      }
    }),
    { numRuns: 200 },
  );
});

/** Plain recursion with what it has seen: what the table must agree with. */
function longestByTrying(first: readonly string[], second: readonly string[]): number {
  const known = new Map<string, number>();
  const longest = (i: number, j: number): number => {
    if (i === first.length || j === second.length) return 0;
    const key = `${i} ${j}`;
    const seen = known.get(key);
    if (seen !== undefined) return seen;
    const length =
      first[i] === second[j]
        ? 1 + longest(i + 1, j + 1)
        : Math.max(longest(i + 1, j), longest(i, j + 1));
    known.set(key, length);
    return length;
  };
  return longest(0, 0);
}
