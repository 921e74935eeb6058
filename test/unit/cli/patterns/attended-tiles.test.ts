import assert from '../../../support/assert.js';
import { test } from 'node:test';
import { AttendedTiles } from '../../../../services/cli/patterns/attended-tiles.js';

/** Query blocks of a chunk with their runs and columns. */
function keys(beginToken: number, blocks: { runs?: [number, number][]; columns?: number[] }[]) {
  const offsets = (lengths: number[]): Float64Array => {
    let end = 0;
    return Float64Array.from([0, ...lengths.map((length) => (end += length))]);
  };
  return {
    beginToken,
    rangeOffsets: offsets(blocks.map(({ runs = [] }) => runs.length)),
    ranges: Uint32Array.from(blocks.flatMap(({ runs = [] }) => runs.flat())),
    columnOffsets: offsets(blocks.map(({ columns = [] }) => columns.length)),
    columns: Uint32Array.from(blocks.flatMap(({ columns = [] }) => columns)),
  };
}

test('runs are cut at tiles, and columns count one key each', () => {
  const tiles = new AttendedTiles(4);
  tiles.add(keys(0, [{ runs: [[0, 64]] }, { runs: [[32, 128]] }]));
  tiles.add(keys(128, [{ runs: [[128, 192]], columns: [0, 1, 64] }]));
  tiles.addDense(3);
  assert.deepEqual(tiles.shares(4), [[1], [0.5, 1], [2 / 64, 1 / 64, 1], [1, 1, 1, 1]]);
});

test('a coarser picture has the mean over what lies before the diagonal', () => {
  const tiles = new AttendedTiles(5);
  tiles.add(
    keys(0, [
      { runs: [[0, 64]] },
      { runs: [[64, 128]] },
      {
        runs: [
          [0, 64],
          [128, 192],
        ],
      },
    ]),
  );
  tiles.addDense(3);
  assert.deepEqual(tiles.shares(3), [[2 / 3], [3 / 4, 1], [1, 1, 1]]);
});

test('a prompt of a million tokens fits', () => {
  const blocks = 16_384;
  const tiles = new AttendedTiles(blocks);
  tiles.add(keys((blocks - 1) * 64, [{ columns: [5, (blocks - 2) * 64] }]));
  const shares = tiles.shares(512);
  assert.equal(shares.length, 512);
  assert.equal(shares[511]?.[0], 1 / (32 * 32 * 64));
  assert.ok((shares[511][511] ?? 0) > 0);
  assert.equal(shares[300]?.[10], 0);
});
