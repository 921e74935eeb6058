import assert from '../support/assert.js';
import { test } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import * as native from '../../native/ts/index.js';
import { EngineWorld } from './engine-world.js';
import {
  chunkRequest,
  greedyItem,
  ignoreProgress,
  needleSamples,
  newKey,
  prefillAndSeal,
} from './native-fixture.js';

const sample = needleSamples()[0] ?? { ids: [], answer_positions: [] };

const world = new EngineWorld();
const { store } = world;

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

test('200 sessions opened and closed leave no mapping, no private page and no file', async () => {
  const key = newKey();
  const prefill = native.openPrefillSession(world.engine, store.handle, key, null);
  const handOff = await prefillAndSeal(prefill, sample.ids, [600]);
  await native.closePrefillSession(prefill);
  for (let i = 0; i < 200; i += 1) {
    const again = native.openPrefillSession(world.engine, store.handle, key, null);
    const decode = await native.openDecodeSession(world.engine, store.handle, key, handOff);
    const scratch = native.openScratchSession(world.engine);
    if (i % 50 === 0) await native.decodeStep(world.engine, [greedyItem(scratch, [1, 2, 3], 0)]);
    assert.ok(store.status().mappings >= 2);
    await native.closePrefillSession(again);
    await native.closeDecodeSession(decode);
    await native.closeDecodeSession(scratch);
  }
  store.assertNothingHeld();
  native.removeSessionFiles(store.handle, key.sessionId);
  assert.equal(store.status().files, 0);
});

test('handles that are collected without a close free their native part', async () => {
  await openAndForget();
  assert.ok(store.status().mappings > 0);
  assert.ok(store.status().privateBytes > 0);
  for (let round = 0; round < 50 && store.status().mappings > 0; round += 1) {
    collectGarbage();
    await setImmediate();
  }
  store.assertNothingHeld();
});

async function openAndForget(): Promise<void> {
  const prefill = native.openPrefillSession(world.engine, store.handle, newKey(), null);
  await native.prefillChunk(prefill, chunkRequest(sample.ids, 0, 512), ignoreProgress);
  const scratch = native.openScratchSession(world.engine);
  await native.decodeStep(world.engine, [greedyItem(scratch, [1], 0)]);
}
