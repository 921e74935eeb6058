import assert from '../../../support/assert.js';
import { test } from 'node:test';
import { describeSearch } from '../../../../services/cli/patterns/describe-search.js';
import { summariseSearch } from '../../../../services/cli/patterns/search-summary.js';
import { noTrials } from '../../../../services/cli/patterns/trial-sums.js';
import { BLOCKS, LINES, SHAPE, STANDARD, sumsWith, WINDOW } from './trial-fixture.js';

const CALIBRATION = sumsWith([
  { [LINES]: 0.5 },
  { [BLOCKS]: 0.25 },
  { [BLOCKS]: 0.2, [LINES]: 0.201 },
  { [STANDARD]: 0.2 },
]);
const HELD_OUT = sumsWith([
  { [LINES]: 0.4, [STANDARD]: 0.2, [WINDOW]: 0.8 },
  { [BLOCKS]: 0.2, [STANDARD]: 0.6, [WINDOW]: 0.8 },
  { [BLOCKS]: 0.1, [STANDARD]: 0.5, [WINDOW]: 0.8 },
  { [STANDARD]: 0.1, [WINDOW]: 0.8 },
]);
const OPTIONS = {
  ...{ tokens: 16_384, prompts: 6, heldOut: 2, tiles: 64, denseBelowTokens: 8_192, seed: 1 },
  device: 'cpu',
  dtype: 'bf16',
} as const;

function near(value: number | undefined, wanted: number): void {
  assert.ok(Math.abs((value ?? NaN) - wanted) < 1e-12, `${value} is not ${wanted}`);
}

test('held-out errors are of what was chosen on the other prompts, by layer and over all', () => {
  const { heldOut } = summariseSearch(CALIBRATION, HELD_OUT, SHAPE);
  assert.deepEqual(
    heldOut.map(({ layer }) => layer),
    [0, 1, null],
  );
  const [first, second, all] = heldOut;
  near(first?.chosen.error, 0.3);
  near(first?.standard.error, 0.4);
  near(second?.chosen.error, 0.1);
  near(second?.standard.error, 0.3);
  near(all?.chosen.error, 0.2);
  near(all?.standard.error, 0.35);
  near(all?.control.error, 0.8);
  near(all?.standard.density, 0.9);
  near(first?.chosen.density, (0.3 + 0.8) / 2);
});

test('patterns are counted, and the heads whose choice is chance', () => {
  const { patterns, closeHeads, choices } = summariseSearch(CALIBRATION, HELD_OUT, SHAPE);
  assert.deepEqual(
    patterns.map(({ heads }) => heads),
    [0, 0, 1, 0, 0, 0, 0, 2, 1],
  );
  near(patterns[BLOCKS]?.error, (1 + 0.25 + 0.2 + 1) / 4);
  assert.equal(closeHeads, 1);
  assert.equal(choices[2]?.isClose, true);
});

test('the gain over uniform patterns can be read', () => {
  const text = describeSearch(
    summariseSearch(CALIBRATION, HELD_OUT, SHAPE),
    OPTIONS,
    'patterns.json',
  );
  assert.match(text, /^patterns\.json: patterns of 4 heads.*6 prompts of 16,384 tokens at 64/);
  assert.match(text, /^all +20\.0 % .* +35\.0 % .* +80\.0 %/m);
  assert.match(text, /42\.9 % less than key-bounds, and 75\.0 % less than a-shape/);
  assert.match(text, /warning: .*key-bounds differ by less than 2 % for 1 head: /);
});

test('a loss on held-out prompts is said as plainly', () => {
  const worse = sumsWith([{ [STANDARD]: 0.5 }, { [STANDARD]: 0.5 }, { [STANDARD]: 0.5 }]);
  const text = describeSearch(summariseSearch(CALIBRATION, worse, SHAPE), OPTIONS, 'x');
  assert.match(text, /60\.0 % more than key-bounds/);
});

test('without held-out prompts nothing is claimed of any', () => {
  const none = noTrials(CALIBRATION.errors.length);
  const summary = summariseSearch(CALIBRATION, none, SHAPE);
  assert.deepEqual(summary.heldOut, []);
  assert.ok(!describeSearch(summary, { ...OPTIONS, heldOut: 0 }, 'x').includes('not seen'));
});
