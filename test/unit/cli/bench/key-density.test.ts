import assert from '../../../support/assert.js';
import { test } from 'node:test';
import { layerDensities, tileDensity } from '../../../../services/cli/bench/key-density.js';
import { measured } from './measured-chunks.js';

const RANGE = { beginToken: 0, endToken: 512 };
const chunk = (attended: number[], causal: number[], layers: [number, number][]) =>
  measured(RANGE, {
    engineMicros: 1,
    sparse: {
      attendedKeys: Float64Array.from(attended),
      causalKeys: Float64Array.from(causal),
      layerAttendedKeys: Float64Array.from(layers.map(([keys]) => keys)),
      layerCausalKeys: Float64Array.from(layers.map(([, keys]) => keys)),
    },
  });

test('the density is over all work, dense work included, and by layer', () => {
  const early = chunk(
    [100, 0, 0, 0, 0],
    [100, 0, 0, 0, 0],
    [
      [50, 50],
      [50, 50],
    ],
  );
  const late = chunk(
    [150, 0, 30, 20, 0],
    [150, 0, 90, 60, 0],
    [
      [150, 150],
      [50, 150],
    ],
  );
  assert.equal(tileDensity([early, late]), 300 / 400);
  assert.deepEqual(layerDensities([early, late]), [1, 100 / 200]);
});

test('a dense session, which counts nothing, sees all', () => {
  const dense = measured(RANGE, { engineMicros: 1 });
  assert.equal(tileDensity([dense]), 1);
  assert.deepEqual(layerDensities([dense]), [1, 1, 1]);
});
