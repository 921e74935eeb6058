import assert from '../../../support/assert.js';
import { test } from 'node:test';
import {
  candidateBudgets,
  controlPlace,
  defaultPlace,
  LEAST_TILES,
  searchCandidates,
} from '../../../../services/cli/patterns/candidates.js';

const TILE = 64;

test('windows take as many tiles as all others may, and the tile that near keys begin within', () => {
  for (const tiles of [LEAST_TILES, 5, 8, 16, 64, 1_000]) {
    const windows = searchCandidates(tiles).filter(({ pattern }) => pattern === 'a-shape');
    assert.ok(windows.length > 0);
    for (const { columns, distances } of windows) {
      assert.equal(columns / TILE + distances / TILE + 1, tiles);
      assert.ok(distances > 0);
    }
  }
});

test('the default pattern and the control are among the candidates, whatever the tiles', () => {
  for (const tiles of [LEAST_TILES, 8, 64]) {
    const candidates = searchCandidates(tiles);
    assert.equal(candidates[defaultPlace(candidates)]?.name, 'key-bounds');
    const control = candidates[controlPlace(candidates)];
    assert.equal(control?.pattern, 'a-shape');
    assert.equal(control.columns, 128);
    assert.equal(new Set(candidates.map(({ name }) => name)).size, candidates.length);
  }
});

test('every pattern that a file may name is tried, by a name that says its lines', () => {
  const names = searchCandidates(16).map(({ name }) => name);
  const a = ['a-shape 128, 832', 'a-shape 256, 704'];
  const lines = ['4096, 100', '1000, 6096', '100, 4096', '30, 4096', '500, 700'];
  const b = lines.map((limits) => `vertical-slash ${limits}`);
  assert.deepEqual(names, [...a, ...b, 'block-sparse', 'key-bounds']);
});

test("budgets are the engine's numbers, four a candidate", () => {
  const budgets = candidateBudgets(
    [
      { pattern: 'a-shape', columns: 128, distances: 832 },
      { pattern: 'vertical-slash', columns: 30, distances: 4_096 },
      { pattern: 'block-sparse', columns: 0, distances: 0 },
      { pattern: 'key-bounds', columns: 0, distances: 0 },
    ],
    16,
  );
  assert.deepEqual([...budgets], [1, 128, 832, 16, 2, 30, 4_096, 16, 3, 0, 0, 16, 5, 0, 0, 16]);
});
