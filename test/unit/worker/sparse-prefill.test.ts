import assert from '../../support/assert.js';
import { test } from 'node:test';
import type { PrefillChunkResult, SparseStats } from '../../../native/ts/index.js';
import type { HeadPattern } from '../../../services/domain/head-pattern.js';
import { makeMetrics } from '../../../services/platform/metrics.js';
import {
  type LoadedPatterns,
  patternsSha256,
} from '../../../services/platform/patterns/load-patterns.js';
import { nativeSparsePolicy } from '../../../services/engine-host/native-sparse-policy.js';
import { chunkSparseWork } from '../../../services/worker/prefill/chunk-sparse-work.js';
import { sparseMetrics } from '../../../services/worker/sparse-metrics.js';
import { sampleSum } from '../../support/metrics-page.js';
import {
  byPattern,
  NO_SPARSE_STATS,
  policyWith,
  SPARSE_STATS,
  sparsePolicy,
  sparseWork,
} from '../../support/sparse-fixture.js';
import { job, makeWorld, refusedWith, sessionRecord, settle } from './fake-prefill.js';

const SHAPE: HeadPattern = { pattern: 'a-shape', columns: 64, distances: 512, tiles: null };
const BLOCKS: HeadPattern = { pattern: 'block-sparse', columns: 0, distances: 0, tiles: 100 };
const FILE = [new Map([[1, SHAPE]]), new Map(), new Map([[0, BLOCKS]])];
const PATTERNS: LoadedPatterns = { patterns: FILE, sha256: patternsSha256(FILE), path: 'p.json' };
const STAGE = { patterns: PATTERNS, layerBegin: 0, layerEnd: 3, queryHeads: 2 };

const SPARSE = sparsePolicy({ patternsSha256: PATTERNS.sha256 });

test('budgets are of each head of each layer of the stage, in order', () => {
  const native = nativeSparsePolicy(policyWith(SPARSE), STAGE);
  const bounds = [5, 0, 0, 64];
  assert.deepEqual(
    [...(native?.budgets ?? [])],
    [bounds, [1, 64, 512, 64], bounds, bounds, [3, 0, 0, 100], bounds].flat(),
  );
  const { budgets: _, ...rest } = native ?? { budgets: null };
  assert.deepEqual(rest, {
    ...{ denseBelowTokens: 1_024, gamma: 0.9, tau: 0.1, minTiles: 8, guardInterval: 4 },
  });
});

test('a request that names its tiles has them in every head, whatever the file says', () => {
  const sparse = { ...SPARSE, tilesPerBlock: 16, tilesOverrideFile: true };
  const native = nativeSparsePolicy(policyWith(sparse), STAGE);
  const tiles = (native?.budgets ?? new Float64Array()).filter((_, at) => at % 4 === 3);
  assert.deepEqual([...tiles], [16, 16, 16, 16, 16, 16]);
});

test('a stage has the budgets of its own layers', () => {
  const stage = { ...STAGE, layerBegin: 2 };
  const native = nativeSparsePolicy(policyWith(SPARSE), stage);
  assert.deepEqual([...(native?.budgets ?? [])], [3, 0, 0, 100, 5, 0, 0, 64]);
});

for (const tilesPerBlock of [1, 128]) {
  test(`without a file every head is key-bounds at the ${tilesPerBlock} tiles of the policy`, () => {
    const patterns: LoadedPatterns = { patterns: [], sha256: patternsSha256([]), path: null };
    const sparse = { ...SPARSE, patternsSha256: patterns.sha256, tilesPerBlock };
    const native = nativeSparsePolicy(policyWith(sparse), { ...STAGE, patterns });
    const heads = Array.from({ length: 6 }, () => [5, 0, 0, tilesPerBlock]);
    assert.deepEqual([...(native?.budgets ?? [])], heads.flat());
  });
}

test('flexprefill has one pattern everywhere and reads no file', () => {
  const sparse = { ...SPARSE, patternsSha256: '', tilesPerBlock: 32 };
  const native = nativeSparsePolicy(policyWith(sparse, 'flexprefill'), STAGE);
  const heads = Array.from({ length: 6 }, () => [4, 0, 0, 32]);
  assert.deepEqual([...(native?.budgets ?? [])], heads.flat());
});

for (const [tiles, sinks, near] of [
  [80, 16, 64],
  [32, 6, 26],
  [5, 1, 4],
  [2, 1, 1],
  [1, 0, 1],
] as const) {
  test(`a-shape with ${String(tiles)} tiles has ${String(sinks)} of first keys and no file`, () => {
    const sparse = { ...SPARSE, patternsSha256: '', tilesPerBlock: tiles };
    const native = nativeSparsePolicy(policyWith(sparse, 'a-shape'), STAGE);
    const heads = Array.from({ length: 6 }, () => [1, 64 * sinks, 64 * (near - 1) + 1, tiles]);
    assert.deepEqual([...(native?.budgets ?? [])], heads.flat());
  });
}

test('a dense session has no sparse policy', () => {
  assert.equal(nativeSparsePolicy(policyWith(null, 'dense'), STAGE), null);
});

test('a session that was admitted for other patterns is refused, naming the file', () => {
  const other = { ...SPARSE, patternsSha256: patternsSha256([]) };
  assert.throws(
    () => nativeSparsePolicy(policyWith(other), STAGE),
    (error: Error) =>
      refusedWith('WORKER_LOST')(error) && /files .* differ.*p\.json/.test(error.message),
  );
});

const POLICY = policyWith(SPARSE);

test('a chunk of a sparse session is opened, run and told with its policy', async () => {
  const { run, chunks, state } = makeWorld();
  const native = nativeSparsePolicy(POLICY, STAGE);
  state.sparseOf = (policy) => (policy.sparse === null ? null : native);
  state.record = sessionRecord({ policy: POLICY });
  state.stats = SPARSE_STATS;
  const first = run(job({}));
  await settle();
  assert.deepEqual(state.sparse, [native]);
  assert.equal(chunks[0]?.request.denseFromToken, null, 'more of the prompt may follow');
  chunks[0].finish();
  const { sparse } = await first;
  assert.deepEqual(sparse, sparseWork());
  const again = await run(job({}));
  assert.equal(again.alreadyDone, true);
  assert.deepEqual(again.sparse, sparse, 'its driver may have died before it wrote it down');
});

/** What the engine says of a chunk of 1,024 tokens. */
function chunkWith(sparse: SparseStats): PrefillChunkResult {
  return {
    segment: { beginToken: 0, endToken: 1_024, bytes: 1 },
    ...{ logprobs: new Float32Array(), ranks: new Uint32Array() },
    ...{ engineMicros: 1, attentionMicros: 1, sparse },
  };
}

test('keys are told by layer of the model, from its first one on', () => {
  const { layerAttendedKeys, layerCausalKeys } = chunkSparseWork(chunkWith(SPARSE_STATS), 2);
  assert.deepEqual(layerAttendedKeys, [0, 0, 20, 20, 15]);
  assert.deepEqual(layerCausalKeys, [0, 0, 50, 50, 40]);
});

test('a chunk of dense rows alone is none of the sparse ones, and its keys count', () => {
  const keys = Float64Array.from(byPattern({ dense: 90 }));
  const stats = { ...NO_SPARSE_STATS, attendedKeys: keys, causalKeys: keys };
  const { sparseTokens, denseTokens, attendedKeys } = chunkSparseWork(chunkWith(stats), 0);
  assert.deepEqual([sparseTokens, denseTokens], [0, 1_024]);
  assert.deepEqual(attendedKeys, [...keys]);
});

test('the last 128 rows of a sparse prompt are dense', async () => {
  const { run, chunks, state } = makeWorld();
  state.record = sessionRecord({ policy: POLICY });
  const last = run(job({ totalTokens: 1_024 }));
  await settle();
  assert.equal(chunks[0]?.request.denseFromToken, 896);
  chunks[0].finish();
  const { sparse, sealed } = await last;
  assert.equal(sealed, true);
  assert.deepEqual([sparse?.sparseTokens, sparse?.denseTokens], [0, 1_024], 'it was too early');
});

test('a sparse prompt of fewer rows than that is dense from its first one on', async () => {
  const { run, chunks, state } = makeWorld();
  state.record = sessionRecord({ policy: POLICY });
  const only = run(job({ endToken: 100, totalTokens: 100, nextTokenId: null }));
  await settle();
  assert.equal(chunks[0]?.request.denseFromToken, 0);
  chunks[0].finish();
  await only;
});

test('a dense session says nothing of sparse prefill', async () => {
  const { run, chunks, state } = makeWorld();
  const only = run(job({ totalTokens: 1_024 }));
  await settle();
  assert.deepEqual(state.sparse, [null]);
  assert.equal(chunks[0]?.request.denseFromToken, null);
  chunks[0].finish();
  assert.equal((await only).sparse, null);
});

test('a job for other patterns fails before anything is opened', async () => {
  const { run, state } = makeWorld();
  state.sparseOf = (policy) =>
    nativeSparsePolicy(policy, { ...STAGE, patterns: { ...PATTERNS, sha256: 'f'.repeat(64) } });
  state.record = sessionRecord({ policy: POLICY });
  await assert.rejects(run(job({})), refusedWith('WORKER_LOST'));
  assert.equal(state.opened, 0);
  assert.deepEqual(state.failedJobs, [['prefill', 'WORKER_LOST']]);
});

test('sparse chunks are counted by pattern, by time and by their error', async () => {
  const registry = makeMetrics('worker');
  const count = sparseMetrics(registry);
  const before = await registry.metrics();
  const names = ['dense', 'a-shape', 'vertical-slash', 'block-sparse', 'flex', 'key-bounds'];
  for (const pattern of names) {
    assert.match(before, new RegExp(`longshadow_sparse_causal_keys_total\\{pattern="${pattern}"`));
  }
  count(SPARSE_STATS);
  count({ ...SPARSE_STATS, guardBlocks: 0, guardErrorSum: 0 });
  const page = await registry.metrics();
  const sum = (name: string, labels = {}): number =>
    sampleSum(page, `longshadow_sparse_${name}`, labels);
  assert.equal(sum('attended_keys_total', { pattern: 'vertical-slash' }), 40);
  assert.equal(sum('attended_keys_total', { pattern: 'a-shape' }), 10);
  assert.equal(sum('attended_keys_total', { pattern: 'dense' }), 60);
  assert.equal(sum('causal_keys_total'), 280);
  assert.equal(sum('estimate_seconds_total'), 60e-6);
  assert.equal(sum('index_seconds_total'), 4e-6);
  assert.equal(sum('attention_seconds_total'), 800e-6);
  assert.equal(sum('guard_error_count'), 1);
  assert.equal(sum('guard_error_sum'), 0.015);
});
