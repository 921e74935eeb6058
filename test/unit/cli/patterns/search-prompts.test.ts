import assert from '../../../support/assert.js';
import { test } from 'node:test';
import { planPrompts } from '../../../../services/cli/patterns/search-prompts.js';

const OPTIONS = {
  ...{ tokens: 16_384, tiles: 64, denseBelowTokens: 8_192, seed: 7 },
  device: 'cpu',
  dtype: 'bf16',
} as const;

/** Not 7: documents of `eval --seed 7` must be others. */
const SEED = 1_000_010;

test('kinds of prompts take turns, in both parts', () => {
  const plans = planPrompts({ ...OPTIONS, prompts: 6, heldOut: 2 });
  assert.deepEqual(
    plans.map(({ isHeldOut, task, seed, index }) => [isHeldOut, task, seed, index]),
    [
      [false, 'niah_multikey_2', SEED, 0],
      [false, 'vt', SEED, 0],
      [false, 'midprompt', SEED, 0],
      [false, 'ppl', SEED, 0],
      [false, 'niah_multikey_2', SEED, 1],
      [false, 'vt', SEED, 1],
      [true, 'niah_multikey_2', SEED + 1, 0],
      [true, 'vt', SEED + 1, 0],
    ],
  );
});

test('no prompt is made twice, and held-out prose lies behind what was taken', () => {
  for (const prompts of [1, 3, 4, 5, 8, 13]) {
    const plans = planPrompts({ ...OPTIONS, prompts, heldOut: 9 });
    assert.equal(plans.length, prompts + 9);
    const names = plans.map(({ task, seed, index }) => `${task}/${seed}/${index}`);
    assert.equal(new Set(names).size, names.length);
    const prose = plans.filter(({ task }) => task === 'ppl');
    assert.deepEqual(
      prose.map(({ seed, index }) => [seed, index]),
      prose.map((_, at) => [SEED, at]),
    );
  }
});
