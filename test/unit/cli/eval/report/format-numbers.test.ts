import assert from '../../../../support/assert.js';
import { test } from 'node:test';
import {
  formatFactor,
  formatLength,
  formatPercent,
  formatPerplexity,
  formatPoints,
  formatRange,
  formatTick,
} from '../../../../../services/cli/eval/report/format-numbers.js';

test('lengths are shown as they are asked for', () => {
  assert.deepEqual([4_096, 131_072, 1_048_576, 3_145_728, 5_000, 0].map(formatLength), [
    ...['4K', '128K', '1M', '3M', '5,000', '0'],
  ]);
});

test('points have a sign, and no zero has one', () => {
  assert.deepEqual([0.021, -0.021, 0.0004, -0.0004, 0].map(formatPoints), [
    ...['+2.1', '−2.1', '0.0', '0.0', '0.0'],
  ]);
});

test('nats become perplexities, and differences of nats factors', () => {
  assert.deepEqual([0, Math.log(9.504), Math.log(1_234.4), 20].map(formatPerplexity), [
    ...['1.00', '9.50', '1,234', '4.85e+8'],
  ]);
  assert.deepEqual([0, 0.042, -0.01, 10].map(formatFactor), [
    ...['×1.000', '×1.043', '×0.990', '×2.20e+4'],
  ]);
});

test('a range whose end is not known is a dash', () => {
  assert.equal(formatRange({ mean: 0.5, low: 0.25, high: 1 }, formatPercent), '25.0 to 100.0');
  assert.equal(formatRange({ mean: 0.5, low: -Infinity, high: Infinity }, formatPercent), '–');
});

test('ticks have the decimals that tell them apart', () => {
  assert.deepEqual(
    [1.1, 1.105].map((value) => formatTick(value, 0.005)),
    ['1.100', '1.105'],
  );
  assert.equal(formatTick(9, 0.5), '9.0');
  assert.equal(formatTick(1_200, 200), '1,200');
  assert.equal(formatTick(0.3, 0.1), '0.3');
});
