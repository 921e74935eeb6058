import assert from '../support/assert.js';
import { test } from 'node:test';
import * as native from '../../native/ts/index.js';
import { HEAD_PATTERNS } from '../../services/domain/head-pattern.js';
import { EngineWorld } from './engine-world.js';
import {
  chunkRequest,
  decodeGreedily,
  ignoreProgress,
  needleSamples,
  newKey,
} from './native-fixture.js';

const [short] = needleSamples();
assert.ok(short);
const promptEnd = short.answer_positions[0] ?? 0;
const world = new EngineWorld({ threads: 2 });
const { store } = world;

const DENSE = [0, 0, 0, 0];
const A_SHAPE = [1, 64, 256, 0];
const VERTICAL_SLASH = [2, 500, 700, 12];
const KEY_BOUNDS = [5, 0, 0, 12];

/** Every head has the same budget. */
function policy(
  budget: readonly number[],
  changes: Partial<native.SparsePolicy> = {},
): native.SparsePolicy {
  const { layers, queryHeads } = world.info;
  const budgets = Array.from({ length: layers * queryHeads }, () => budget);
  return {
    denseBelowTokens: 0,
    budgets: Float64Array.from(budgets.flat()),
    gamma: 0.95,
    tau: 0.1,
    minTiles: 8,
    guardInterval: 0,
    ...changes,
  };
}

/** Prefills the short sample in two chunks; the results, and the greedy answer. */
async function run(sparse: native.SparsePolicy | null) {
  const key = newKey();
  const session = native.openPrefillSession(world.engine, store.handle, key, sparse);
  const results = [];
  for (const [begin, end] of [
    [0, 1024],
    [1024, promptEnd],
  ] as const) {
    const denseFromToken = Math.max(begin, promptEnd - 128);
    const request = chunkRequest(short?.ids ?? [], begin, end, { denseFromToken });
    results.push(await native.prefillChunk(session, request, ignoreProgress));
  }
  const handOff = await native.sealPrefillSession(session);
  const decode = await native.openDecodeSession(world.engine, store.handle, key, handOff);
  const answer = await decodeGreedily(world.engine, decode, short?.answer_positions.length ?? 0);
  await native.closeDecodeSession(decode);
  await native.closePrefillSession(session);
  return { results, answer };
}

const sum = (numbers: Float64Array): number => numbers.reduce((a, b) => a + b, 0);

test('a dense session reports no sparse work', async () => {
  const { results } = await run(null);
  const { layers } = world.info;
  for (const { sparse } of results) {
    assert.deepEqual(sparse, {
      attendedKeys: new Float64Array(HEAD_PATTERNS.length),
      causalKeys: new Float64Array(HEAD_PATTERNS.length),
      layerAttendedKeys: new Float64Array(layers),
      layerCausalKeys: new Float64Array(layers),
      estimateMicros: 0,
      indexMicros: 0,
      attentionMicros: 0,
      guardBlocks: 0,
      guardErrorSum: 0,
      guardErrorMax: 0,
    });
  }
});

for (const budget of [VERTICAL_SLASH, KEY_BOUNDS]) {
  const place = budget[0] ?? 0;
  test(`a session of ${HEAD_PATTERNS[place]} heads answers, and reports keys, times and the guard`, async () => {
    const { results, answer } = await run(policy(budget, { guardInterval: 1 }));
    const { layers } = world.info;
    assert.deepEqual(
      answer,
      short.answer_positions.map((position) => short.ids[position]),
    );
    for (const { segment, sparse, attentionMicros } of results) {
      const [attended, causal] = [sparse.attendedKeys, sparse.causalKeys];
      const [dense = NaN, chosen = NaN, all = NaN] = [attended[0], attended[place], causal[place]];
      assert.ok(chosen > 0 && chosen < all);
      assert.equal(dense > 0, segment.endToken === promptEnd, 'the last rows of the prompt');
      assert.equal(dense, causal[0], 'which see every key');
      assert.equal(dense + chosen, sum(attended), 'the others are of these heads');
      assert.equal(dense + all, sum(causal));
      assert.equal(sparse.layerAttendedKeys.length, layers);
      assert.equal(sum(sparse.layerAttendedKeys), sum(attended));
      assert.deepEqual(
        sparse.layerCausalKeys,
        new Float64Array(layers).fill(sum(causal) / layers),
        'every layer has as many',
      );
      const parts = sparse.estimateMicros + sparse.indexMicros + sparse.attentionMicros;
      assert.ok(parts > 0 && parts <= attentionMicros);
      assert.equal(sparse.guardBlocks, layers);
      assert.ok(sparse.guardErrorMax > 0 && sparse.guardErrorMax <= sparse.guardErrorSum);
    }
  });
}

test('the policy is copied at the opening', async () => {
  const reference = await run(policy(A_SHAPE));
  const changing = policy(A_SHAPE);
  const session = native.openPrefillSession(world.engine, store.handle, newKey(), changing);
  changing.budgets.fill(0);
  const request = chunkRequest(short.ids, 0, 1024, { denseFromToken: promptEnd - 128 });
  const { sparse } = await native.prefillChunk(session, request, ignoreProgress);
  assert.deepEqual(sparse.attendedKeys, reference.results[0]?.sparse.attendedKeys);
  await native.closePrefillSession(session);
});

test('chunks within the threshold, and policies of dense heads, are dense', async () => {
  const dense = await run(null);
  const { layers } = world.info;
  for (const same of [policy(A_SHAPE, { denseBelowTokens: promptEnd }), policy(DENSE)]) {
    const { results, answer } = await run(same);
    assert.deepEqual(answer, dense.answer);
    for (const { sparse } of results) {
      const [keys = NaN, ...others] = sparse.causalKeys;
      assert.ok(keys > 0 && others.every((other) => other === 0));
      assert.deepEqual(sparse.attendedKeys, sparse.causalKeys);
      assert.deepEqual(sparse.layerAttendedKeys, new Float64Array(layers).fill(keys / layers));
      assert.deepEqual(sparse.layerCausalKeys, sparse.layerAttendedKeys);
    }
  }
});

test('dense rows from before the chunk on are refused', async () => {
  const session = native.openPrefillSession(world.engine, store.handle, newKey(), policy(A_SHAPE));
  await native.prefillChunk(session, chunkRequest(short.ids, 0, 512), ignoreProgress);
  const request = chunkRequest(short.ids, 512, 1024, { denseFromToken: 511 });
  await assert.rejects(native.prefillChunk(session, request, ignoreProgress), {
    code: 'INVALID_ARGUMENT',
    message: /dense_from is 511 but the chunk begins at 512/,
  });
  await native.closePrefillSession(session);
});

test('a policy that does not fit is refused at the opening with what to change', () => {
  const fits = policy(VERTICAL_SLASH);
  const budgetsWith = (index: number, value: number): Float64Array => {
    const budgets = Float64Array.from(fits.budgets);
    budgets[index] = value;
    return budgets;
  };
  const wrong: [unknown, RegExp][] = [
    [undefined, /sparse must be an object/],
    [7, /sparse must be an object/],
    [{}, /sparse\.denseBelowTokens/],
    ...[-1, 0.5, NaN, '0', undefined].map((denseBelowTokens): [unknown, RegExp] => [
      { ...fits, denseBelowTokens },
      /sparse\.denseBelowTokens must be an integer in \[0, /,
    ]),
    [{ ...fits, budgets: [...fits.budgets] }, /sparse\.budgets must be a Float64Array/],
    [{ ...fits, budgets: fits.budgets.subarray(1) }, /4 numbers a budget .* got 95 numbers/],
    [{ ...fits, budgets: fits.budgets.subarray(4) }, /6 layers x 4 query heads.* got 23/],
    [{ ...fits, budgets: new Float64Array() }, /6 layers x 4 query heads.* got 0/],
    [{ ...fits, budgets: budgetsWith(4, 6) }, /sparse\.budgets\[4\] must be a pattern in \[0, 5\]/],
    [{ ...fits, budgets: budgetsWith(4, 256) }, /sparse\.budgets\[4\] must be a pattern/],
    ...[-1, NaN, 0.5, Infinity, 2 ** 60].map((value): [unknown, RegExp] => [
      { ...fits, budgets: budgetsWith(9, value) },
      /sparse\.budgets must hold integers/,
    ]),
    [
      { ...fits, budgets: Float64Array.from(fits.budgets, (_, i) => (i % 4 ? 0 : 1)) },
      /layer 0: .*distances/,
    ],
    ...[0, -0.5, 1.5].map((gamma): [unknown, RegExp] => [
      { ...fits, gamma },
      /gamma must be .*\(0, 1\]/,
    ]),
    ...[NaN, undefined, '1'].map((gamma): [unknown, RegExp] => [
      { ...fits, gamma },
      /sparse\.gamma must be a finite number/,
    ]),
    [{ ...fits, tau: -0.1 }, /tau must be/],
    [{ ...fits, tau: Infinity }, /sparse\.tau must be a finite number/],
    [{ ...fits, minTiles: -1 }, /sparse\.minTiles/],
    [{ ...fits, guardInterval: -1 }, /sparse\.guardInterval/],
    [{ ...fits, guardInterval: 2 ** 31 }, /sparse\.guardInterval/],
  ];
  const files = store.status().files;
  for (const [sparse, message] of wrong) {
    assert.throws(
      () =>
        native.openPrefillSession(
          world.engine,
          store.handle,
          newKey(),
          sparse as native.SparsePolicy,
        ),
      { name: 'NativeError', code: 'INVALID_ARGUMENT', message },
      String(message),
    );
  }
  assert.equal(store.status().files, files);
});
