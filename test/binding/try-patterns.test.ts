import assert from '../support/assert.js';
import { test } from 'node:test';
import * as native from '../../native/ts/index.js';
import { EngineWorld } from './engine-world.js';
import { chunkRequest, ignoreProgress, needleSamples, newKey } from './native-fixture.js';

const [short] = needleSamples();
assert.ok(short);
const ids = short.ids;
const world = new EngineWorld({ threads: 2 });
const { store } = world;

const EVERYTHING = [1, 0, 1e6, 0];
const WINDOW = [1, 64, 128, 0];
const LINES = [2, 500, 700, 6];
const CANDIDATES = Float64Array.from([EVERYTHING, WINDOW, LINES].flat());

function open(): native.PrefillSessionHandle {
  return native.openPrefillSession(world.engine, store.handle, newKey(), null);
}

test('errors and keys come by layer, head and candidate', async () => {
  const session = open();
  await native.prefillChunk(session, chunkRequest(ids, 0, 512), ignoreProgress);
  const request = chunkRequest(ids, 512, 1_024, { denseFromToken: 900 });
  const { segment, rows, errors, attendedKeys, shown } = await native.tryPatterns(
    ...[session, request, CANDIDATES, null],
  );
  assert.deepEqual([segment.beginToken, segment.endToken], [512, 1_024]);
  assert.equal(rows, 896 - 512);
  assert.equal(shown, null);
  assert.equal(errors.length, world.info.layers * world.info.queryHeads * 3);
  const causal = [576, 640, 704, 768, 832, 896].reduce((sum, keys) => sum + keys, 0);
  for (let head = 0; head < errors.length / 3; head += 1) {
    const [full = NaN, window = NaN, lines = NaN] = errors.subarray(3 * head, 3 * head + 3);
    assert.ok(full / rows < 0.05 && window > full && lines > full, `head ${head}`);
    const [all, some = NaN, chosen = NaN] = attendedKeys.subarray(3 * head, 3 * head + 3);
    assert.equal(all, causal);
    assert.ok(some > 0 && some < causal && chosen > 0 && chosen < causal);
  }
  assert.equal(native.prefillSessionSegments(session).length, 2);
  await native.closePrefillSession(session);
});

test('the keys of one head are runs and columns of its query blocks', async () => {
  const session = open();
  const head = { layer: world.info.layers - 1, head: 1, candidate: 2 };
  const { attendedKeys, shown } = await native.tryPatterns(
    ...[session, chunkRequest(ids, 0, 1_024), CANDIDATES, head],
  );
  assert.ok(shown);
  const { beginToken, rangeOffsets, ranges, columnOffsets, columns } = shown;
  assert.equal(beginToken, 0);
  assert.equal(rangeOffsets.length, 17);
  assert.equal(columnOffsets.length, 17);
  assert.equal(ranges.length, 2 * (rangeOffsets[16] ?? NaN));
  assert.equal(columns.length, columnOffsets[16]);
  let keys = columns.length;
  for (let at = 0; at < ranges.length; at += 2) keys += (ranges[at + 1] ?? 0) - (ranges[at] ?? 0);
  const place = (head.layer * world.info.queryHeads + head.head) * 3 + head.candidate;
  assert.equal(keys, attendedKeys[place]);
  await native.closePrefillSession(session);
});

test('what cannot be tried is refused with what to change', async () => {
  const session = open();
  const request = chunkRequest(ids, 0, 512);
  const head = { layer: 0, head: 0, candidate: 0 };
  const wrong: [unknown, unknown, RegExp][] = [
    [new Float64Array(), null, /no candidate/],
    [CANDIDATES.subarray(1), null, /candidates must hold 4 numbers a budget.*got 11/],
    [[...CANDIDATES], null, /candidates must be a Float64Array/],
    [Float64Array.from([1, 64, 0, 0]), null, /distances/],
    [CANDIDATES, undefined, /shown must be an object/],
    [CANDIDATES, {}, /shown\.layer/],
    [CANDIDATES, { ...head, head: -1 }, /shown\.head/],
    [CANDIDATES, { ...head, layer: world.info.layers }, /6 layers, 4 query heads and 3 candidates/],
    [CANDIDATES, { ...head, head: world.info.queryHeads }, /head 4, candidate 0; there are/],
    [CANDIDATES, { ...head, candidate: 3 }, /candidate 3; there are/],
  ];
  for (const [candidates, shown, message] of wrong) {
    await assert.rejects(
      native.tryPatterns(
        session,
        request,
        candidates as Float64Array,
        shown as native.TriedHead | null,
      ),
      { name: 'NativeError', code: 'INVALID_ARGUMENT', message },
      String(message),
    );
  }
  assert.deepEqual(native.prefillSessionSegments(session), []);
  await native.closePrefillSession(session);
});

test('a session of a sparse policy is refused with what to change', async () => {
  const budgets = Float64Array.from({ length: 24 * 4 }, (_, field) => WINDOW[field % 4] ?? 0);
  const sparse = {
    ...{ denseBelowTokens: 0, budgets, gamma: 0.95, tau: 0.1, minTiles: 8, guardInterval: 0 },
  };
  const session = native.openPrefillSession(world.engine, store.handle, newKey(), sparse);
  await assert.rejects(native.tryPatterns(session, chunkRequest(ids, 0, 512), CANDIDATES, null), {
    ...{ name: 'NativeError', code: 'INVALID_ARGUMENT' },
    message: /opened with a sparse policy.*open it without one/,
  });
  assert.deepEqual(native.prefillSessionSegments(session), []);
  await native.closePrefillSession(session);
});

test('a trial ends when its session is cancelled', async () => {
  const session = open();
  const trial = native.tryPatterns(session, chunkRequest(ids, 0, 1_024), CANDIDATES, null);
  native.cancelPrefillSession(session);
  await assert.rejects(trial, { code: 'CANCELLED' });
  await native.closePrefillSession(session);
  store.assertNothingHeld();
});
