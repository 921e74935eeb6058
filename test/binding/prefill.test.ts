import assert from '../support/assert.js';
import { linkSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import * as native from '../../native/ts/index.js';
import { EngineWorld } from './engine-world.js';
import {
  chunkRequest,
  decodeGreedily,
  greedyItem,
  ignoreProgress,
  needleSamples,
  newKey,
  prefillAndSeal,
  withCode,
} from './native-fixture.js';

const [short, long] = needleSamples();
assert.ok(short && long);
const world = new EngineWorld();
const { store } = world;

test('a prompt prefilled in chunks, sealed and handed off is answered', async () => {
  const answer = short.answer_positions.map((position) => short.ids[position]);
  const promptEnd = short.answer_positions[0] ?? 0;
  const key = newKey();
  const before = native.engineCounters(world.engine);
  const prefill = native.openPrefillSession(world.engine, store.handle, key, null);
  const handOff = await prefillAndSeal(prefill, short.ids, [512, 1536, promptEnd]);
  assert.deepEqual(
    native
      .prefillSessionSegments(prefill)
      .map(({ beginToken, endToken }) => [beginToken, endToken]),
    [
      [0, 512],
      [512, 1536],
      [1536, promptEnd],
    ],
  );
  const decode = await native.openDecodeSession(world.engine, store.handle, key, handOff);
  await native.closePrefillSession(prefill);
  assert.equal(native.decodeSessionTokens(decode), promptEnd);
  assert.deepEqual(await decodeGreedily(world.engine, decode, answer.length), answer);
  assert.equal(native.decodeSessionTokens(decode), promptEnd + answer.length - 1);
  const counters = native.engineCounters(world.engine);
  assert.equal(counters.prefillChunks - before.prefillChunks, 3);
  assert.equal(counters.prefillTokens - before.prefillTokens, promptEnd);
  assert.equal(counters.decodeSteps - before.decodeSteps, answer.length);
  await native.closeDecodeSession(decode);
  native.removeSessionFiles(store.handle, key.sessionId);
  store.assertNothingHeld();
  assert.equal(store.status().files, 0);
});

test('log-probabilities of prompt tokens come back for the positions asked for', async () => {
  const prefill = native.openPrefillSession(world.engine, store.handle, newKey(), null);
  const promptEnd = short.answer_positions[0] ?? 0;
  await native.prefillChunk(prefill, chunkRequest(short.ids, 0, 1536), ignoreProgress);
  const { logprobs, ranks, segment } = await native.prefillChunk(
    prefill,
    chunkRequest(short.ids, 1536, promptEnd, {
      nextTokenId: short.ids[promptEnd] ?? null,
      logprobPositions: Float64Array.of(1537, promptEnd),
    }),
    ignoreProgress,
  );
  assert.deepEqual([segment.beginToken, segment.endToken], [1536, promptEnd]);
  assert.equal(logprobs.length, 2);
  assert.equal(ranks.length, 2);
  assert.equal(ranks[1], 1, 'the first token of the answer is the likeliest one');
  assert.ok((logprobs[1] ?? -1) > Math.log(0.5), 'and more likely than all others together');
  assert.ok((logprobs[0] ?? 1) <= 0);
  await native.closePrefillSession(prefill);
});

test('the event loop stays free during a long prefill, and progress arrives', async () => {
  const prefill = native.openPrefillSession(world.engine, store.handle, newKey(), null);
  const shares: number[] = [];
  let ticks = 0;
  const ticking = setInterval(() => (ticks += 1), 5);
  const start = performance.now();
  await native.prefillChunk(prefill, chunkRequest(long.ids, 0, long.ids.length), (share) =>
    shares.push(share),
  );
  const elapsedMs = performance.now() - start;
  clearInterval(ticking);
  // 5 ms ticks on a busy machine: a tenth of them is still ten thousand times a blocked loop's.
  assert.ok(ticks >= elapsedMs / 50, `${ticks} ticks in ${elapsedMs} ms`);
  assert.ok(shares.length >= 2, `${shares.length} progress calls`);
  assert.deepEqual(
    shares,
    shares.toSorted((a, b) => a - b),
    'progress never goes back',
  );
  assert.ok(shares.every((share) => share > 0 && share <= 1));
  // More than is unmapped on the event loop: both closes settle when the file thread has done it.
  assert.ok(store.status().mappedBytes > 16 * 2 ** 20);
  const closing = native.closePrefillSession(prefill);
  await native.closePrefillSession(prefill);
  store.assertNothingHeld();
  await closing;
});

test('a chunk cancelled in the middle rejects within 500 ms and leaves nothing', async () => {
  const files = store.status().files;
  const prefill = native.openPrefillSession(world.engine, store.handle, newKey(), null);
  let cancelledAt = 0;
  const running = native.prefillChunk(prefill, chunkRequest(long.ids, 0, long.ids.length), () => {
    if (cancelledAt !== 0) return;
    cancelledAt = performance.now();
    native.cancelPrefillSession(prefill);
  });
  await assert.rejects(running, withCode('CANCELLED'));
  const elapsedMs = performance.now() - cancelledAt;
  assert.ok(cancelledAt > 0 && elapsedMs < 500, `${elapsedMs} ms from cancel to rejection`);
  await native.closePrefillSession(prefill);
  store.assertNothingHeld();
  assert.equal(store.status().files, files, 'the unfinished segment is gone');
});

test('work that waits behind another session is cancelled without waiting', async () => {
  const first = native.openPrefillSession(world.engine, store.handle, newKey(), null);
  const second = native.openPrefillSession(world.engine, store.handle, newKey(), null);
  const order: string[] = [];
  const running = native
    .prefillChunk(first, chunkRequest(long.ids, 0, 2048), ignoreProgress)
    .then(() => order.push('first'));
  const waiting = native.prefillChunk(second, chunkRequest(long.ids, 0, 512), ignoreProgress);
  native.cancelPrefillSession(second);
  await assert.rejects(waiting, withCode('CANCELLED'));
  order.push('second');
  await running;
  assert.deepEqual(order, ['second', 'first']);
  await native.closePrefillSession(first);
  await native.closePrefillSession(second);
  store.assertNothingHeld();
});

test('closing during a chunk lets it end, and then frees', async () => {
  const prefill = native.openPrefillSession(world.engine, store.handle, newKey(), null);
  const running = native.prefillChunk(prefill, chunkRequest(short.ids, 0, 512), ignoreProgress);
  const closing = native.closePrefillSession(prefill);
  await assert.rejects(
    native.prefillChunk(prefill, chunkRequest(short.ids, 512, 1024), ignoreProgress),
    withCode('INVALID_ARGUMENT'),
  );
  assert.equal((await running).segment.endToken, 512);
  await closing;
  await native.closePrefillSession(prefill);
  store.assertNothingHeld();
});

test('a new prefill session adopts the segments of an earlier one', async () => {
  const key = newKey();
  const first = native.openPrefillSession(world.engine, store.handle, key, null);
  await native.prefillChunk(first, chunkRequest(short.ids, 0, 1024), ignoreProgress);
  await native.closePrefillSession(first);
  const second = native.openPrefillSession(world.engine, store.handle, key, null);
  const segments = native.prefillSessionSegments(second);
  assert.deepEqual(
    segments.map(({ endToken }) => endToken),
    [1024],
  );
  const newer = native.openPrefillSession(world.engine, store.handle, { ...key, epoch: 2 }, null);
  assert.deepEqual(native.prefillSessionSegments(newer), []);
  await native.closePrefillSession(second);
  await native.closePrefillSession(newer);
});

test('a session goes on from segments that another one made', async () => {
  const promptEnd = short.answer_positions[0] ?? 0;
  const answer = short.answer_positions.map((position) => short.ids[position]);
  const maker = newKey();
  const first = native.openPrefillSession(world.engine, store.handle, maker, null);
  await native.prefillChunk(first, chunkRequest(short.ids, 0, 1024), ignoreProgress);
  await native.closePrefillSession(first);
  const own = { ...newKey(), epoch: 4 };
  const folder = join(store.root, 'store', own.sessionId);
  mkdirSync(folder, { mode: 0o700 });
  for (const kind of ['k', 'v']) {
    linkSync(
      join(store.root, 'store', maker.sessionId, `1-0-0-1024.${kind}`),
      join(folder, `4-0-0-1024.${kind}`),
    );
  }
  const origins = [{ beginToken: 0, endToken: 1024, fingerprint: maker.fingerprint }];
  const second = native.openPrefillSession(world.engine, store.handle, { ...own, origins }, null);
  await native.prefillChunk(second, chunkRequest(short.ids, 1024, promptEnd), ignoreProgress);
  const handOff = await native.sealPrefillSession(second);
  await native.closePrefillSession(second);
  native.removeSessionFiles(store.handle, maker.sessionId);
  const decode = await native.openDecodeSession(world.engine, store.handle, own, handOff);
  assert.deepEqual(await decodeGreedily(world.engine, decode, answer.length), answer);
  await native.closeDecodeSession(decode);
  store.assertNothingHeld();
});

test('an item of a closed session fails alone', async () => {
  const key = newKey();
  const prefill = native.openPrefillSession(world.engine, store.handle, key, null);
  const handOff = await prefillAndSeal(prefill, short.ids, [600]);
  const open = await native.openDecodeSession(world.engine, store.handle, key, handOff);
  const closed = await native.openDecodeSession(world.engine, store.handle, key, handOff);
  await native.closeDecodeSession(closed);
  const [bad, good] = await native.decodeStep(world.engine, [
    greedyItem(closed, [], 0),
    greedyItem(open, [], 0),
  ]);
  assert.equal(bad?.error?.code, 'INVALID_ARGUMENT');
  assert.equal(bad.tokenId, null);
  assert.equal(good?.error, null);
  assert.notEqual(good.tokenId, null);
  native.cancelDecodeSession(open);
  const [cancelled] = await native.decodeStep(world.engine, [greedyItem(open, [5], 1)]);
  assert.equal(cancelled?.error?.code, 'CANCELLED');
  await native.closeDecodeSession(open);
  await native.closePrefillSession(prefill);
  store.assertNothingHeld();
});

test('forced tokens and targets of an appended turn come back with their ranks', async () => {
  const session = native.openScratchSession(world.engine);
  const [result] = await native.decodeStep(world.engine, [
    {
      ...greedyItem(session, short.ids.slice(0, 4), 0),
      logprobTargets: Uint32Array.of(short.ids[1] ?? 0, 0xffffffff, short.ids[3] ?? 0, 7),
      forcedTokenId: 42,
    },
  ]);
  assert.equal(result?.error, null);
  assert.equal(result.tokenId, 42);
  assert.ok(result.logprob < 0 && result.rank >= 1);
  assert.ok(result.targetLogprobs && result.targetRanks);
  assert.deepEqual(
    [...result.targetLogprobs].map((value) => Number.isNaN(value)),
    [false, true, false, false],
  );
  assert.equal(result.targetRanks[1], 0);
  await native.closeDecodeSession(session);
});

test('a damaged hand-off, or one of another key, is DATA_LOSS', async () => {
  const key = newKey();
  const prefill = native.openPrefillSession(world.engine, store.handle, key, null);
  const handOff = await prefillAndSeal(prefill, short.ids, [512]);
  await native.closePrefillSession(prefill);
  const flipped = handOff.map((byte, i) => (i === handOff.length - 1 ? byte ^ 1 : byte));
  const attempts: [native.SessionKey, Uint8Array][] = [
    [key, flipped],
    [key, handOff.subarray(0, 100)],
    [key, new Uint8Array()],
    [{ ...key, epoch: 2 }, handOff],
    [{ ...key, fingerprint: '0'.repeat(32) }, handOff],
  ];
  for (const [otherKey, bytes] of attempts) {
    await assert.rejects(
      native.openDecodeSession(world.engine, store.handle, otherKey, bytes),
      withCode('DATA_LOSS'),
    );
  }
  store.assertNothingHeld();
});
