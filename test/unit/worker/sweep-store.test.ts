import assert from '../../support/assert.js';
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { ServingError } from '../../../services/domain/serving-error.js';
import type { SessionRecord } from '../../../services/domain/session-record.js';
import { StoreSweep } from '../../../services/worker/values/sweep-store.js';
import { sessionRecord } from './fake-prefill.js';

const ID = '4'.repeat(32);
const EPOCH_1 = '1-0-0-512.k';
const EPOCH_2 = '2-0-0-512.k';

/** A store with one session's files of two epochs. */
async function inStore(
  run: (world: {
    directory: string;
    files: () => Promise<string[]>;
    sweeper: (load: () => SessionRecord | null) => StoreSweep;
    open: Set<string>;
    removed: number[];
    doubts: string[];
  }) => Promise<void>,
): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), 'longshadow-store-'));
  const [open, removed, doubts] = [new Set<string>(), [] as number[], [] as string[]];
  try {
    await mkdir(join(directory, ID), { mode: 0o700 });
    for (const name of [EPOCH_1, EPOCH_2]) {
      await writeFile(join(directory, ID, name), 'x'.repeat(100));
    }
    const sweeper = (load: () => SessionRecord | null): StoreSweep =>
      new StoreSweep({
        directory,
        records: { load: () => new Promise((done) => done(load())) },
        isOpen: (sessionId) => open.has(sessionId),
        onRemoved: (bytes) => removed.push(bytes),
        onDoubt: (sessionId) => doubts.push(sessionId),
        onError: (error) => assert.fail(String(error)),
      });
    const files = async (): Promise<string[]> =>
      (await readdir(join(directory, ID)).catch(() => [])).sort();
    await run({ directory, files, sweeper, open, removed, doubts });
  } finally {
    await rm(directory, { recursive: true });
  }
}

const cases: { name: string; record: SessionRecord | null; left: string[] }[] = [
  { name: 'that Redis does not know', record: null, left: [] },
  { name: 'that has ended', record: sessionRecord({ epoch: 2, state: 'failed' }), left: [] },
  { name: 'of a later plan', record: sessionRecord({ epoch: 2 }), left: [EPOCH_2] },
  { name: 'of the first plan', record: sessionRecord({ epoch: 1 }), left: [EPOCH_1, EPOCH_2] },
];

for (const { name, record, left } of cases) {
  test(`of a session ${name}, ${String(2 - left.length)} files go at the second look`, async () => {
    await inStore(async ({ directory, files, sweeper, removed, doubts }) => {
      const sweep = sweeper(() => record);
      await sweep.run();
      assert.deepEqual(await files(), [EPOCH_1, EPOCH_2]);
      await sweep.run();
      assert.deepEqual(await files(), left);
      assert.deepEqual(removed, left.length === 2 ? [] : [100 * (2 - left.length)]);
      assert.equal((await readdir(directory)).length, left.length === 0 ? 0 : 1, 'its folder too');
      await sweep.run();
      assert.deepEqual([await files(), doubts], [left, []]);
    });
  });
}

test('while Redis is away nothing goes, and the count begins again', async () => {
  await inStore(async ({ files, sweeper }) => {
    const answers = [null, new ServingError('REDIS_UNAVAILABLE', 'away')];
    const sweep = sweeper(() => {
      const answer = answers.shift() ?? null;
      if (answer !== null) throw answer;
      return null;
    });
    for (let looks = 1; looks <= 3; looks++) await sweep.run();
    assert.deepEqual(await files(), [EPOCH_1, EPOCH_2]);
    await sweep.run();
    assert.deepEqual(await files(), []);
  });
});

test('only what was stale at both looks goes', async () => {
  await inStore(async ({ files, sweeper }) => {
    const answers = [sessionRecord({ epoch: 2 }), null, null];
    const sweep = sweeper(() => answers.shift() ?? null);
    await sweep.run();
    await sweep.run();
    assert.deepEqual(await files(), [EPOCH_2]);
    await sweep.run();
    assert.deepEqual(await files(), []);
  });
});

test('the files of a session that is open here are left to it', async () => {
  await inStore(async ({ files, sweeper, open }) => {
    const sweep = sweeper(() => null);
    open.add(ID);
    for (let looks = 1; looks <= 3; looks++) await sweep.run();
    assert.deepEqual(await files(), [EPOCH_1, EPOCH_2]);
  });
});

test('an empty folder of a session that lives stays: its first file is about to come', async () => {
  await inStore(async ({ directory, files, sweeper }) => {
    for (const name of await files()) await rm(join(directory, ID, name));
    const sweep = sweeper(() => sessionRecord({ epoch: 2 }));
    for (let looks = 1; looks <= 3; looks++) await sweep.run();
    assert.deepEqual(await readdir(directory), [ID]);
  });
});

test('two workers may sweep a store at once', async () => {
  await inStore(async ({ files, sweeper, doubts }) => {
    const sweeps = [sweeper(() => null), sweeper(() => null)];
    for (let looks = 1; looks <= 2; looks++) await Promise.all(sweeps.map((sweep) => sweep.run()));
    assert.deepEqual([await files(), doubts], [[], []]);
  });
});

test('a record that cannot be read keeps the files, and is reported once', async () => {
  await inStore(async ({ files, sweeper, doubts }) => {
    const sweep = sweeper(() => {
      throw new ServingError('DATA_LOSS', 'schemaVersion: 9');
    });
    for (let looks = 1; looks <= 3; looks++) await sweep.run();
    assert.deepEqual(await files(), [EPOCH_1, EPOCH_2]);
    assert.deepEqual(doubts, [ID]);
  });
});

test("a file in a session's place stays, is reported once, and stops nothing", async () => {
  await inStore(async ({ directory, files, sweeper, doubts }) => {
    const planted = '3'.repeat(32);
    await writeFile(join(directory, planted), 'not ours to remove');
    const sweep = sweeper(() => null);
    for (let looks = 1; looks <= 3; looks++) await sweep.run();
    assert.deepEqual(await files(), []);
    assert.deepEqual(await readdir(directory), [planted]);
    assert.deepEqual(doubts, [planted]);
  });
});
