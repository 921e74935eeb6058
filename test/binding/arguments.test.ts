import assert from '../support/assert.js';
import { cpSync, mkdirSync, readFileSync, readdirSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { loadAddon } from '../../native/ts/load.js';
import * as native from '../../native/ts/index.js';
import {
  chunkRequest,
  ENGINE_OPTIONS,
  greedyItem,
  ignoreProgress,
  MODEL_DIRECTORY,
  newKey,
  TemporaryStore,
  withCode,
} from './native-fixture.js';

const store = new TemporaryStore();
let engine: native.EngineHandle;
let prefill: native.PrefillSessionHandle;
let scratch: native.DecodeSessionHandle;

before(async () => {
  engine = await native.openEngine({ ...ENGINE_OPTIONS, threads: 2 });
  prefill = native.openPrefillSession(engine, store.handle, newKey(), null);
  scratch = native.openScratchSession(engine);
});
after(async () => {
  await native.closePrefillSession(prefill);
  await native.closeDecodeSession(scratch);
  await native.closeEngine(engine);
  store.remove();
});

/** Calls with values that the types forbid: what a bug elsewhere could pass. */
type Loose = Record<string, (...args: unknown[]) => unknown>;
const loose = native as unknown as Loose;

async function refuses(name: string, args: unknown[]): Promise<void> {
  const call = loose[name];
  assert.ok(call, name);
  await assert.rejects(
    async () => {
      await call(...args);
    },
    withCode('INVALID_ARGUMENT'),
    `${name} took ${String(args.at(-1))}`,
  );
}

test('the typed face has every function of the add-on', () => {
  assert.deepEqual(
    Object.keys(loadAddon()).toSorted(),
    Object.keys(native)
      .filter((name) => name !== 'NativeError')
      .toSorted(),
  );
});

test('a handle of a wrong type is INVALID_ARGUMENT, never a crash', async () => {
  const impostors = [
    null,
    undefined,
    1,
    'engine',
    {},
    [],
    { type: 'engine' },
    new Proxy(engine, {}),
    Object.create(engine) as unknown,
    store.handle,
  ];
  for (const impostor of impostors) {
    await refuses('engineInfo', [impostor]);
    await refuses('engineCounters', [impostor]);
    await refuses('closeEngine', [impostor]);
    await refuses('openScratchSession', [impostor]);
    await refuses('decodeStep', [impostor, []]);
    await refuses('openPrefillSession', [impostor, store.handle, newKey(), null]);
  }
  for (const impostor of [...impostors.slice(0, -1), engine]) {
    await refuses('valueStoreStatus', [impostor]);
    await refuses('valueStoreFreeBytes', [impostor]);
    await refuses('removeSessionFiles', [impostor, newKey().sessionId]);
    await refuses('openPrefillSession', [engine, impostor, newKey(), null]);
    await refuses('openDecodeSession', [engine, impostor, newKey(), new Uint8Array(1)]);
  }
  for (const name of ['cancel', 'close', 'seal']) {
    await refuses(`${name}PrefillSession`, [scratch]);
  }
  await refuses('prefillSessionSegments', [scratch]);
  await refuses('prefillChunk', [scratch, chunkRequest([1], 0, 1), ignoreProgress]);
  for (const name of ['cancelDecodeSession', 'closeDecodeSession', 'decodeSessionTokens']) {
    await refuses(name, [prefill]);
  }
  await refuses('appendLogits', [prefill, new Uint32Array(1), new Float64Array(1)]);
  await refuses('decodeStep', [engine, [{ ...greedyItem(scratch, [1], 0), session: prefill }]]);
});

test('wrong fields are named and refused', async () => {
  const cases: [string, (value: unknown) => unknown[], Record<string, unknown[]>][] = [
    [
      'openEngine',
      (change) => [{ ...ENGINE_OPTIONS, ...(change as object) }],
      {
        modelDirectory: [undefined, null, 7],
        dtype: ['fp16', null],
        threads: [-1, 1.5, NaN, '2', 1025, 2 ** 40],
        layerBegin: [-1, undefined],
        layerEnd: [undefined, -1, 'all'],
      },
    ],
    [
      'openPrefillSession',
      (change) => [engine, store.handle, { ...newKey(), ...(change as object) }, null],
      {
        sessionId: ['', '../../etc/passwd', 'A'.repeat(32), 'a'.repeat(33), 5],
        epoch: [-1, 2 ** 32, 0.5],
        stage: [undefined, 2 ** 33],
        fingerprint: ['', 'g'.repeat(32), 'A'.repeat(32), 'a'.repeat(31), null],
      },
    ],
    [
      'prefillChunk',
      (change) => [
        prefill,
        { ...chunkRequest([1, 2, 3], 0, 3), ...(change as object) },
        ignoreProgress,
      ],
      {
        tokenIds: [[1, 2], new Int32Array(2), new Uint32Array(), Uint32Array.of(4096), null],
        beginToken: [-1, 0.5, 512, 2 ** 60, undefined],
        nextTokenId: [undefined, -1, 2 ** 32],
        denseFromToken: [undefined, -1, 0.5, '9'],
        logprobPositions: [null, [1], Float64Array.of(NaN), Float64Array.of(0), Float64Array.of(9)],
      },
    ],
    [
      'decodeStep',
      (change) => [engine, [{ ...greedyItem(scratch, [1], 0), ...(change as object) }]],
      {
        tokenIds: [null, [1], new Float32Array(1)],
        logprobTargets: [undefined, [1]],
        sample: [undefined, 1],
        sampling: [
          null,
          {},
          { temperature: NaN, topK: 0, topP: 1, seed: 0n },
          { temperature: 0, topK: -1, topP: 1, seed: 0n },
          { temperature: 0, topK: 0, topP: 1, seed: 0 },
          { temperature: 0, topK: 0, topP: 1, seed: -1n },
          { temperature: 0, topK: 0, topP: 1, seed: 2n ** 64n },
        ],
        tokenIndex: [-1, undefined, 2 ** 60],
        forcedTokenId: [undefined, -1],
      },
    ],
  ];
  for (const [name, args, fields] of cases) {
    for (const [field, values] of Object.entries(fields)) {
      for (const value of values) await refuses(name, args({ [field]: value }));
    }
  }
  await refuses('prefillChunk', [prefill, chunkRequest([1], 0, 1), null]);
  await refuses('decodeStep', [engine, null]);
  await refuses('appendLogits', [scratch, Uint32Array.of(1), Float64Array.of(1)]);
  assert.equal(native.decodeSessionTokens(scratch), 0, 'nothing was appended');
});

test('wrong origins are named and refused', async () => {
  const origin = { beginToken: 0, endToken: 512, fingerprint: 'a'.repeat(32) };
  const changes: Record<string, unknown>[] = [
    ...[-512, 100, undefined, 0.5].map((beginToken) => ({ beginToken })),
    ...[0, 512.5, null, 2 ** 50].map((endToken) => ({ endToken })),
    ...['a'.repeat(31), 'A'.repeat(32), null].map((fingerprint) => ({ fingerprint })),
  ];
  const wrong: unknown[] = [
    ...[undefined, null, {}, 'all', [null], [7], [origin, origin]],
    ...changes.map((change) => [{ ...origin, ...change }]),
  ];
  const open = loose['openPrefillSession'];
  assert.ok(open);
  for (const origins of wrong) {
    assert.throws(
      () => open(engine, store.handle, { ...newKey(), origins }, null),
      (error) => withCode('INVALID_ARGUMENT')(error) && /origins/.test(String(error)),
      JSON.stringify(origins),
    );
  }
  // Decode learns them from the hand-off.
  for (const origins of [undefined, [origin]]) {
    await refuses('openDecodeSession', [
      engine,
      store.handle,
      { ...newKey(), origins },
      new Uint8Array(1),
    ]);
  }
});

test('nothing throws in place of rejecting', () => {
  const names = [
    ...['openEngine', 'closeEngine', 'prefillChunk', 'decodeStep', 'appendLogits'],
    ...['closePrefillSession', 'closeDecodeSession'],
  ];
  for (const name of names) {
    const promise = loose[name]?.();
    assert.ok(promise instanceof Promise, name);
    promise.catch(() => undefined);
  }
});

test('what a getter throws rejects as it is', async () => {
  const request = {
    get beginToken(): number {
      throw new RangeError('from the getter');
    },
  };
  await assert.rejects(
    native.prefillChunk(prefill, request as native.PrefillChunkRequest, ignoreProgress),
    RangeError,
  );
});

test('a model folder that is missing or corrupt is MODEL_INVALID', async () => {
  const folder = join(store.root, 'model');
  const open = () => native.openEngine({ ...ENGINE_OPTIONS, modelDirectory: folder });
  await assert.rejects(open(), withCode('MODEL_INVALID'));
  mkdirSync(folder);
  await assert.rejects(open(), withCode('MODEL_INVALID'));
  cpSync(MODEL_DIRECTORY, folder, { recursive: true });
  await native.closeEngine(await open());
  truncateSync(join(folder, 'model-00002-of-00002.safetensors'), 1000);
  await assert.rejects(open(), withCode('MODEL_INVALID'));
  writeFileSync(join(folder, 'config.json'), '{');
  await assert.rejects(open(), withCode('MODEL_INVALID'));
});

test('an unknown device is UNSUPPORTED or INVALID_ARGUMENT', async () => {
  await assert.rejects(
    native.openEngine({ ...ENGINE_OPTIONS, device: 'abacus' as native.Device }),
    withCode('UNSUPPORTED'),
  );
});

test('the free bytes of a store are those of its status', () => {
  const difference = native.valueStoreFreeBytes(store.handle) - store.status().freeBytes;
  assert.ok(Math.abs(difference) < 2 ** 30, 'but for what others write in between');
});

/** Threads of this process that run an engine's jobs or compute for it. */
function engineThreads(): number {
  const names = readdirSync('/proc/self/task').map((id) => {
    try {
      return readFileSync(`/proc/self/task/${id}/comm`, 'utf8').trim();
    } catch {
      return ''; // it has ended since
    }
  });
  return names.filter((name) => name === 'ls-engine' || name === 'ls-compute').length;
}

/** How many there are once there are no more than `count`, or after ten seconds. */
async function threadsOnceThereAre(count: number): Promise<number> {
  for (let round = 0; round < 1000 && engineThreads() > count; round += 1) await sleep(10);
  return engineThreads();
}

test('closing an engine ends its threads', async () => {
  // Engines of earlier tests may still be ending theirs.
  const before = await threadsOnceThereAre(2);
  assert.equal(before, 2, 'those of the engine that all tests share');
  const handles = [];
  for (let i = 0; i < 3; i += 1) {
    const other = await native.openEngine({ ...ENGINE_OPTIONS, threads: 2 });
    handles.push(other); // not collected: the close alone must do it
    assert.equal(engineThreads(), before + 2);
    await Promise.all([native.closeEngine(other), native.closeEngine(other)]);
    // The thread settles the promise and then ends.
    assert.equal(await threadsOnceThereAre(before), before);
  }
  for (const handle of handles) await native.closeEngine(handle);
});

test('a closed engine refuses work and closes again without complaint', async () => {
  const other = await native.openEngine(ENGINE_OPTIONS);
  const session = native.openScratchSession(other);
  const ofOther = native.openPrefillSession(other, store.handle, newKey(), null);
  const running = native.appendLogits(session, Uint32Array.of(1, 2), Float64Array.of(1));
  const closing = native.closeEngine(other);
  assert.equal((await running).length, 4096, 'what was queued before still runs');
  await closing;
  await native.closeEngine(other);
  await refuses('engineInfo', [other]);
  await refuses('openScratchSession', [other]);
  await refuses('openPrefillSession', [other, store.handle, newKey(), null]);
  await refuses('decodeStep', [other, [greedyItem(session, [1], 0)]]);
  await refuses('appendLogits', [session, Uint32Array.of(1), Float64Array.of(0)]);
  await refuses('sealPrefillSession', [ofOther]);
  await native.closeDecodeSession(session);
  await native.closePrefillSession(ofOther);
});
