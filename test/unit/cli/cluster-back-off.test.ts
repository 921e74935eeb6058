import assert from '../../support/assert.js';
import { test } from 'node:test';
import { BackOff } from '../../../services/cli/cluster/back-off.js';

test('pauses double from 1 s to 30 s while a member keeps dying', () => {
  const backOff = new BackOff();
  const pauses = Array.from({ length: 7 }, () => backOff.ended(500));
  assert.deepEqual(pauses, [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]);
});

test('a member that served for a minute begins at 1 s again', () => {
  const backOff = new BackOff();
  backOff.ended(0);
  backOff.ended(0);
  assert.equal(backOff.ended(60_000), 1_000);
  assert.equal(backOff.ended(0), 2_000);
});

test('the fifth start in a row that fails is the last', () => {
  const backOff = new BackOff();
  backOff.ended(0);
  const pauses = Array.from({ length: 5 }, () => backOff.failedToStart());
  assert.deepEqual(pauses, [2_000, 4_000, 8_000, 16_000, null]);
});

test('a start that works begins the count of failed ones anew', () => {
  const backOff = new BackOff();
  for (let failed = 0; failed < 4; failed += 1) assert.ok(backOff.failedToStart() !== null);
  backOff.ended(0);
  for (let failed = 0; failed < 4; failed += 1) assert.ok(backOff.failedToStart() !== null);
  assert.equal(backOff.failedToStart(), null);
});
