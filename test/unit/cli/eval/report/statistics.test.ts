import assert from '../../../../support/assert.js';
import { test } from 'node:test';
import fc from 'fast-check';
import { SeededRandom } from '../../../../../services/cli/text/seeded-random.js';
import { pairedDifference } from '../../../../../services/cli/eval/report/paired-difference.js';
import {
  averageIntervals,
  estimateRatio,
  estimateScore,
  median,
  wilson,
} from '../../../../../services/cli/eval/report/statistics.js';
import { tQuantile } from '../../../../../services/cli/eval/report/t-quantile.js';

function near(got: number, want: number, tolerance: number, what = ''): void {
  assert.ok(Math.abs(got - want) <= tolerance, `${what} ${got} for ${want}`);
}

test("Wilson's intervals are those that Newcombe printed (1998, table I, method 3)", () => {
  const printed = [
    [81, 263, 0.2553, 0.3662],
    [15, 148, 0.0624, 0.1605],
    [0, 20, 0, 0.1611],
    [1, 29, 0.0061, 0.1718],
  ] as const;
  for (const [right, count, low, high] of printed) {
    const interval = wilson(right, count);
    near(interval.low, low, 5e-5, `low of ${right}/${count}`);
    near(interval.high, high, 5e-5, `high of ${right}/${count}`);
    assert.equal(interval.mean, right / count);
  }
});

test("Student's quantiles are those of printed tables", () => {
  const printed = [
    [1, 12.7062],
    [4, 2.7764],
    [10, 2.2281],
    [11, 2.201],
    [20, 2.086],
    [30, 2.0423],
    [60, 2.0003],
    [120, 1.9799],
    [1_000_000, 1.96],
  ] as const;
  for (const [degrees, quantile] of printed) near(tQuantile(degrees), quantile, 1e-4, `${degrees}`);
});

test('scores of 0 and 1 get Wilson, graded ones Wilson for the answers that vary as they do', () => {
  const all = estimateScore(Array.from({ length: 100 }, () => 1));
  assert.deepEqual([all.count, all.mean, all.high], [100, 1, 1]);
  near(all.low, 0.963, 5e-4);
  const some = Array.from({ length: 40 }, (_, at) => (at < 31 ? 1 : 0));
  const { low, high } = wilson(31, 40);
  near(estimateScore(some).low, low, 1e-12);
  near(estimateScore(some).high, high, 1e-12);
  const graded = Array.from({ length: 100 }, (_, at) => [0.25, 0.5, 0.75, 1][at % 4] ?? 0);
  const { low: from, high: to } = estimateScore(graded);
  // Standard deviation 0.2795, over the root of 100, times 1.984: 5.5 points, and Wilson's doubt.
  near(to - from, 2 * 0.0566, 2e-3);
  assert.throws(() => estimateScore([]), RangeError);
});

test('few or equal graded scores leave a width', () => {
  const three = estimateScore([0.75, 0.75, 0.75]);
  near(three.low, 0.328, 0.001);
  near(three.high, 0.9485, 0.001);
  const hundred = estimateScore(Array.from({ length: 100 }, () => 0.75));
  near(hundred.low, 0.731, 0.001);
  near(hundred.high, 0.768, 0.001);
  const one = estimateScore([0.5]);
  assert.ok(one.low < 0.1 && one.high > 0.9, `${one.low} to ${one.high}`);
  const mean = averageIntervals([three, three, three, three]);
  near(mean.high - mean.low, (three.high - three.low) / 2, 1e-9);
});

test('one score or pair that becomes graded does not make the table more certain', () => {
  for (const wrong of [0, 1, 5, 20, 50]) {
    const scores = Array.from({ length: 100 }, (_, at) => (at < wrong ? 0 : 1));
    for (const changed of [0.999, 0.9, 0.75, 0.5]) {
      const graded = [...scores.slice(0, 99), changed];
      const [before, after] = [width(estimateScore(scores)), width(estimateScore(graded))];
      assert.ok(after > 0.95 * before, `${wrong} wrong, ${changed}: ${after} after ${before}`);
      const pairs = scores.map((score) => ({ score, dense: 1 }));
      for (const pair of [
        { score: changed, dense: changed },
        { score: changed, dense: 1 },
      ]) {
        const widths = [pairs, [...pairs.slice(0, 99), pair]].map((some) =>
          width(pairedDifference(some)),
        );
        const [was = NaN, is = NaN] = widths;
        assert.ok(is > 0.95 * was, `${wrong} lost, ${changed}: ${is} after ${was}`);
      }
    }
  }
});

function width({ low, high }: Readonly<{ low: number; high: number }>): number {
  return high - low;
}

test('a ratio weighs targets by their tokens', () => {
  const ratio = estimateRatio([
    { value: 10, weight: 10 },
    { value: 90, weight: 30 },
  ]);
  assert.equal(ratio.mean, 2.5);
  // Residuals ±15: 12.706 times the root of 2 times 450, over 40.
  near(ratio.high - ratio.mean, (12.7062 * Math.sqrt(900)) / 40, 1e-3);
  const same = estimateRatio([5, 9, 2].map((weight) => ({ value: 3 * weight, weight })));
  near(same.low, 3, 1e-9);
  assert.equal(estimateRatio([{ value: 1, weight: 1 }]).low, -Infinity);
});

test('the mean of equally wide intervals narrows with the root of their number', () => {
  const one = { mean: 0.5, low: 0.4, high: 0.7 };
  const mean = averageIntervals([one, one, one, one]);
  near(mean.low, 0.45, 1e-12);
  near(mean.high, 0.6, 1e-12);
  assert.equal(median([3, 1, 2]), 2);
  assert.equal(median([4, 1, 2, 3]), 2.5);
});

test('a paired difference counts what was lost and gained', () => {
  const pairs = [
    ...Array.from({ length: 95 }, () => ({ score: 1, dense: 1 })),
    ...Array.from({ length: 4 }, () => ({ score: 0, dense: 1 })),
    { score: 1, dense: 0 },
  ];
  const difference = pairedDifference(pairs);
  assert.deepEqual([difference.count, difference.lost, difference.gained], [100, 4, 1]);
  near(difference.mean, -0.03, 1e-12);
  // Bonett and Price: shares 5/102 and 2/102.
  const half = 1.959964 * Math.sqrt((7 / 102 - (3 / 102) ** 2) / 102);
  near(difference.low, -3 / 102 - half, 1e-6);
  near(difference.high, -3 / 102 + half, 1e-6);
});

function differ(count: number, lost: number, gained = 0): ReturnType<typeof pairedDifference> {
  return pairedDifference(
    Array.from({ length: count }, (_, at) => {
      if (at < lost) return { score: 0, dense: 1 };
      return at < lost + gained ? { score: 1, dense: 0 } : { score: 1, dense: 1 };
    }),
  );
}

test('within 1 point means that at most 2 of 100 are lost', () => {
  assert.equal(differ(100, 2).withinOnePoint, true);
  assert.equal(differ(100, 3).withinOnePoint, false);
  assert.equal(differ(300, 6).withinOnePoint, true);
  assert.equal(differ(300, 7).withinOnePoint, false);
  const graded = Array.from({ length: 100 }, () => ({ score: 0.58, dense: 0.6 }));
  assert.equal(pairedDifference(graded).withinOnePoint, true, '0.02 each, but for rounding');
  near(pairedDifference(graded).lost, 2, 1e-9);
});

test('what is gained does not make up for what is lost', () => {
  const swapped = differ(100, 40, 38);
  assert.equal(swapped.withinOnePoint, false);
  assert.deepEqual([swapped.lost, swapped.gained], [40, 38]);
  near(swapped.mean, -0.02, 1e-12);
  assert.equal(differ(100, 2, 30).withinOnePoint, true);
});

test('fewer than 100 answers do not say whether a policy is within 1 point', () => {
  for (const [count, lost] of [
    [1, 0],
    [50, 1],
    [99, 2],
  ] as const) {
    const { withinOnePoint, missingAnswers } = differ(count, lost);
    assert.deepEqual([withinOnePoint, missingAnswers], [null, 100 - count]);
  }
  assert.equal(differ(100, 0).missingAnswers, 0);
});

test('equal answers leave a width, whether scores are 0 or 1 or graded', () => {
  for (const score of [1, 0, 0.75]) {
    const equal = pairedDifference(Array.from({ length: 100 }, () => ({ score, dense: score })));
    assert.equal(equal.mean, 0);
    near(equal.high, 0.0272, 1e-4, `${score}`);
    near(equal.low, -0.0272, 1e-4, `${score}`);
  }
  const two = pairedDifference([
    { score: 0.5, dense: 0.6 },
    { score: 0.2, dense: 0.5 },
  ]);
  near(two.mean, -0.2, 1e-12);
  // With -1 and 1: mean -0.1, mean square 2.1 over 4.
  const half = 1.959964 * Math.sqrt((2.1 / 4 - 0.01) / 4);
  near(two.low, -0.1 - half, 1e-6);
  near(two.high, -0.1 + half, 1e-6);
  assert.throws(() => pairedDifference([]), RangeError);
});

test('over shares from 50 to 99.5 %, Wilson holds the truth about 95 times of 100', () => {
  const covers: number[] = [];
  for (let share = 0.5; share < 0.996; share += 0.005) covers.push(wilsonCoverage(share, 100));
  const mean = covers.reduce((total, cover) => total + cover, 0) / covers.length;
  assert.ok(mean > 0.945 && mean < 0.965, `${mean}`);
  assert.ok(Math.min(...covers) > 0.9, `${Math.min(...covers)}`);
});

/** The chance that the interval of a drawn count holds the share, summed over all counts. */
function wilsonCoverage(share: number, count: number): number {
  let [chance, covered] = [(1 - share) ** count, 0];
  for (let right = 0; right <= count; right += 1) {
    const { low, high } = wilson(right, count);
    if (low <= share && share <= high) covered += chance;
    chance *= ((count - right) / (right + 1)) * (share / (1 - share));
  }
  return covered;
}

test('over drawn pairs, the difference of 0/1 scores holds the truth about 95 times of 100', () => {
  const random = new SeededRandom('pairs');
  let covered = 0;
  for (let draw = 0; draw < 400; draw += 1) {
    const pairs = Array.from({ length: 100 }, () => {
      const at = random.next();
      if (at < 0.06) return { score: 0, dense: 1 };
      return at < 0.08 ? { score: 1, dense: 0 } : { score: 1, dense: 1 };
    });
    const { low, high } = pairedDifference(pairs);
    if (low <= -0.04 && -0.04 <= high) covered += 1;
  }
  assert.ok(covered >= 368 && covered <= 396, `${covered} of 400`);
});

/** Ways in which graded scores fall, with their true means. */
const GRADED: readonly {
  readonly name: string;
  readonly mean: number;
  readonly draw: (random: SeededRandom) => number;
}[] = [
  { name: 'even', mean: 0.5, draw: (random) => random.next() },
  { name: 'quarters', mean: 0.5, draw: (random) => Math.floor(random.next() * 5) / 4 },
  { name: 'a half now and then', mean: 0.985, draw: (random) => (random.next() < 0.03 ? 0.5 : 1) },
  { name: 'wrong now and then', mean: 0.735, draw: (random) => (random.next() < 0.02 ? 0 : 0.75) },
  {
    name: 'mostly nothing',
    mean: 0.2,
    draw: (random) => (random.next() < 0.6 ? 0 : random.next()),
  },
  { name: 'close together', mean: 0.97, draw: (random) => 0.96 + 0.02 * random.next() },
];

for (const { name, mean, draw } of GRADED) {
  test(`graded scores, ${name}: 3, 10 or 100 hold the truth at least 9 times of 10`, () => {
    const random = new SeededRandom(`graded ${name}`);
    for (const count of [3, 10, 100]) {
      let [scored, compared] = [0, 0];
      for (let run = 0; run < 1_000; run += 1) {
        const scores = Array.from({ length: count }, () => draw(random));
        if (holds(estimateScore(scores), mean)) scored += 1;
        const pairs = scores.map((score) => ({ score, dense: draw(random) }));
        if (holds(pairedDifference(pairs), 0)) compared += 1;
      }
      // A hundred: 93 %. With fewer, the steps of rare scores are as coarse as Wilson's own.
      const least = count === 100 ? 930 : 900;
      assert.ok(scored >= least, `${scored} of 1,000 means of ${count}`);
      assert.ok(compared >= least, `${compared} of 1,000 differences of ${count}`);
    }
  });
}

function holds({ low, high }: Readonly<{ low: number; high: number }>, truth: number): boolean {
  return low <= truth && truth <= high;
}

test('property: an interval holds its mean and stays within 0 and 1', () => {
  const score = fc.oneof(fc.constantFrom(0, 1), fc.double({ min: 0, max: 1, noNaN: true }));
  fc.assert(
    fc.property(fc.array(score, { minLength: 1, maxLength: 40 }), (scores) => {
      const { mean, low, high } = estimateScore(scores);
      assert.ok(low <= mean + 1e-12 && mean <= high + 1e-12);
      assert.ok(low >= 0 && high <= 1);
    }),
    { numRuns: 200 },
  );
});
