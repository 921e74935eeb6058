import assert from '../../support/assert.js';
import { test } from 'node:test';
import type { SparsePolicy } from '../../../native/ts/index.js';
import { remainingPrefillMs } from '../../../services/domain/prefill-cost.js';
import { sparseLaw } from '../../../services/worker/prefill/sparse-law.js';
import { policyWith, sparsePolicy } from '../../support/sparse-fixture.js';
import { job, makeWorld, sessionRecord, settle } from './fake-prefill.js';

/** Pattern (1 A-shape, 2 vertical-slash, 5 key-bounds), columns, distances and tiles of six heads. */
const HEADS = [
  [2, 1_000, 6_096, 8],
  [2, 1_000, 6_096, 512],
  [5, 0, 0, 8],
  [1, 64, 512, 512],
  [1, 65, 513, 512],
  [1, 64, 512, 8],
];
const SPARSE: SparsePolicy = {
  ...{ denseBelowTokens: 1_024, budgets: Float64Array.from(HEADS.flat()) },
  ...{ gamma: 0.9, tau: 0.1, minTiles: 8, guardInterval: 0 },
};

test('heads are counted by the tiles that they have, a window’s by its lines too', () => {
  const law = sparseLaw(SPARSE);
  assert.equal(law?.denseBelowTokens, 1_024);
  const counts = [...law.headsByTiles].sort(([a], [b]) => a - b);
  assert.deepEqual(counts, [
    [8, 3],
    [10, 1],
    [12, 1],
    [512, 1],
  ]);
  assert.equal(sparseLaw(null), null);
});

test('what choosing keys costs is the mean over the heads, by their patterns', () => {
  // Lines: 64 of 8,192 queries. Bounds: every fourth query, and of 64 keys the least and the greatest.
  const [lines, bounds, window] = [1 / 128, 1 / 256, 0];
  const mean = (2 * lines + bounds + 3 * window) / 6;
  assert.ok(Math.abs((sparseLaw(SPARSE)?.estimateShare ?? NaN) - mean) < 1e-12);
  const oneHead = { ...SPARSE, budgets: Float64Array.of(5, 0, 0, 64) };
  assert.equal(sparseLaw(oneHead)?.estimateShare, bounds);
});

test('the time that is left follows from the tiles of the heads, not from those of the policy', async () => {
  const policy = policyWith(sparsePolicy());
  const { run, chunks, state } = makeWorld();
  const totalTokens = 100_000;
  state.sparseOf = () => SPARSE;
  state.record = sessionRecord({ policy, receivedTokens: totalTokens });
  state.nowUnixMs = 0; // it waits for nobody
  const first = run(job({ totalTokens }));
  await settle();
  chunks[0]?.finish();
  await first;
  const event = state.events.at(-1);
  const range = { beginToken: 0, endToken: 1_024 };
  const finished = [{ ...range, engineMicros: 2_000, attentionMicros: 500, wallMicros: 0 }];
  const told = { finished, running: null, nextToken: 1_024, totalTokens };
  const wanted = remainingPrefillMs({ ...told, sparse: sparseLaw(SPARSE) }) ?? NaN;
  const headsByTiles = new Map([[64, 1]]);
  const sparse = { denseBelowTokens: 1_024, headsByTiles, estimateShare: 0 };
  const other = remainingPrefillMs({ ...told, sparse });
  assert.notEqual(Math.round(wanted), Math.round(other ?? NaN));
  assert.equal(event?.type === 'progress' ? event.etaMs : null, Math.round(wanted));
});
