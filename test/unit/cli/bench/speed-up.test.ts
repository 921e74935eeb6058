import assert from '../../../support/assert.js';
import { test } from 'node:test';
import { speedUp } from '../../../../services/cli/bench/speed-up.js';
import { lawful, measured, steps } from './measured-chunks.js';

const PLAN = steps(1_024, 4);
const seconds = (policy: string, repeat: number, times: readonly number[]) =>
  times.flatMap((time, at) => {
    const range = PLAN[at];
    return range === undefined
      ? []
      : [measured(range, { policy, repeat, engineMicros: time * 1e6 })];
  });

test('the whole is the ratio of times, chunks have ratios of their own', () => {
  const speed = speedUp(
    seconds('minference', 0, [1, 1, 1, 1]),
    seconds('dense', 0, [1, 2, 3, 10]),
    PLAN,
  );
  assert.equal(speed.whole, 4);
  assert.equal(speed.measured, 4);
  assert.deepEqual(speed.byRepeat, [4]);
  assert.deepEqual(speed.byChunk, {
    ...{ count: 4, least: 1, lowerQuartile: 1.75, median: 2.5, upperQuartile: 4.75, greatest: 10 },
  });
});

test('repeats count by their medians: of times in the whole, of ratios in a chunk', () => {
  const policy = [
    ...seconds('minference', 0, [1, 1, 1, 1]),
    ...seconds('minference', 1, [1, 1, 1, 5]),
    ...seconds('minference', 2, [2, 2, 2, 2]),
  ];
  const dense = [
    ...seconds('dense', 0, [2, 2, 2, 2]),
    ...seconds('dense', 1, [3, 3, 3, 15]),
    ...seconds('dense', 2, [8, 8, 8, 8]),
  ];
  const speed = speedUp(policy, dense, PLAN);
  assert.equal(speed.whole, (3 + 3 + 3 + 8) / (1 + 1 + 1 + 2));
  assert.deepEqual(speed.byRepeat, [2, 3, 4]);
  assert.deepEqual([speed.byChunk.least, speed.byChunk.greatest], [3, 3]);
});

test('dense chunks that did not run count by the cost law in the whole, and nowhere else', () => {
  const dense = PLAN.slice(0, 2).map((range) => lawful(range));
  const policy = PLAN.map((range) => lawful(range, { policy: 'minference' }));
  const speed = speedUp(policy, dense, PLAN);
  assert.ok(Math.abs(speed.whole - 1) < 1e-9, String(speed.whole));
  assert.ok(Math.abs(speed.measured - 1) < 1e-9);
  assert.equal(speed.byChunk.count, 2);
});
