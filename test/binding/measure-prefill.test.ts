import assert from '../support/assert.js';
import { test } from 'node:test';
import type { MeasuredChunk } from '../../services/cli/bench/interleaved-prefill.js';
import { SERVED_THRESHOLDS } from '../../services/cli/bench/bench-policy.js';
import { measurePrefill, type PrefillBench } from '../../services/cli/bench/measure-prefill.js';
import { MODEL_DIRECTORY } from './native-fixture.js';

/** Chunks end at 2,048, 3,584 and 4,096; the first one is dense, the second does not run densely. */
const BENCH: PrefillBench = {
  ...{ modelDirectory: MODEL_DIRECTORY, tokens: 4_096, policies: ['dense', 'minference'] },
  ...{ device: 'cpu', dtype: 'bf16', threads: 2, patternsFile: null, repeats: 2 },
  thresholds: { ...SERVED_THRESHOLDS, denseBelowTokens: 2_048, tilesPerBlock: 8, guardInterval: 2 },
  denseUntilToken: 2_048,
};
const never = new AbortController().signal;

test('a whole run: turns, repeats, densities, the guard, and dense chunks by their law', async () => {
  const chunks: MeasuredChunk[] = [];
  const sizes = { ...BENCH.thresholds, tilesOverrideFile: true };
  const measured = await measurePrefill(
    { ...BENCH, thresholds: sizes },
    (chunk) => chunks.push(chunk),
    never,
  );
  assert.deepEqual(
    chunks.map(({ policy, repeat, endToken }) => `${policy} ${repeat} ${endToken}`),
    [
      ...['dense 0 2048', 'minference 0 2048', 'minference 0 3584', 'minference 0 4096'],
      ...['minference 1 2048', 'dense 1 2048', 'minference 1 3584', 'minference 1 4096'],
    ],
  );
  const [dense, sparse] = measured.lines;
  assert.ok(dense && sparse);
  assert.ok(dense.seconds > dense.extrapolated_seconds && dense.extrapolated_seconds > 0);
  assert.deepEqual(dense.extrapolated_from?.end_token, 2_048);
  assert.equal(dense.tile_density, 1);

  assert.equal(sparse.repeats, 2);
  assert.equal(sparse.extrapolated_seconds, 0);
  assert.ok((sparse.speedup ?? 0) > 0 && sparse.repeat_speedups?.length === 2);
  assert.ok(sparse.attention_seconds > sparse.estimate_seconds && sparse.estimate_seconds > 0);
  assert.ok((sparse.guard_error_mean ?? 0) > 0);
  // Of 64 blocks the first 32 are dense, 30 see up to 8 tiles, and the last two see all.
  const tiles = { all: (64 * 65) / 2, dense: (32 * 33) / 2 + 63 + 64, sparse: 30 * 8 };
  const isBetween = (density: number): boolean =>
    density > tiles.dense / tiles.all && density <= (tiles.dense + tiles.sparse) / tiles.all;
  assert.ok(isBetween(sparse.tile_density), String(sparse.tile_density));
  assert.equal(sparse.layer_density?.length, 6);
  assert.ok(sparse.layer_density.every(isBetween), String(sparse.layer_density));
  const [early, late] = sparse.positions;
  assert.deepEqual([early?.end_token, late?.end_token], [2_048, 3_584]);
  assert.equal(early?.tile_density, 1, 'a chunk within the threshold is dense');
  assert.equal(early.estimate_share, 0);
  assert.ok(late !== undefined && late.tile_density < 0.25 && late.estimate_share > 0);
});

test('a stop ends the running chunk and leaves nothing', async () => {
  const stop = new AbortController();
  const chunks: MeasuredChunk[] = [];
  const running = measurePrefill(
    { ...BENCH, tokens: 65_536, denseUntilToken: Infinity },
    (chunk) => {
      chunks.push(chunk);
      if (chunks.length === 3) stop.abort();
    },
    stop.signal,
  );
  await assert.rejects(running, { code: 'CANCELLED' });
  assert.equal(chunks.length, 3);
});

test('a length that the model does not take is refused', async () => {
  const running = measurePrefill({ ...BENCH, tokens: 2 ** 21 }, () => undefined, never);
  await assert.rejects(running, { code: 'PROMPT_TOO_LONG', message: /1048576/ });
});

test('a store without room for all policies is refused before anything runs', async () => {
  const many = Array.from({ length: 100_000 }, () => 'minference' as const);
  const running = measurePrefill(
    { ...BENCH, tokens: 2 ** 20, policies: many },
    () => assert.fail('a chunk ran'),
    never,
  );
  await assert.rejects(running, {
    code: 'VALUE_STORE_FULL',
    message: /TiB of memory at once.*--tok/,
  });
});
