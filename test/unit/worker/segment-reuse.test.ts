import assert from '../../support/assert.js';
import { existsSync, statSync } from 'node:fs';
import {
  chmod,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rm,
  symlink,
  unlink,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import type { ErrorCode } from '../../../services/domain/serving-error.js';
import type { SessionRecord } from '../../../services/domain/session-record.js';
import { PrefillSessions } from '../../../services/worker/prefill/prefill-sessions.js';
import { SegmentReuse } from '../../../services/worker/prefill/segment-reuse.js';
import { removeSessionFiles } from '../../../services/worker/values/session-files.js';
import { makeWorld, refusedWith, SESSION, sessionRecord } from './fake-prefill.js';

const DONOR = 'd'.repeat(32);
const TAKER = { sessionId: SESSION, epoch: 1 };
const SOURCE = { sessionId: DONOR, epoch: 3 };

/** A store on disk with a donor of three chunks, and a worker's parts around it. */
async function inStore(
  run: (world: {
    readonly directory: string;
    readonly reuse: SegmentReuse;
    readonly sessions: PrefillSessions;
    readonly disk: ReturnType<typeof makeWorld>['disk'];
    readonly state: { record: SessionRecord | null };
  }) => Promise<void>,
): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), 'longshadow-store-'));
  const { engine, disk } = makeWorld();
  const sessions = new PrefillSessions({
    engine,
    removeFiles: async (sessionId, epoch) => removeSessionFiles(directory, sessionId, epoch),
    nowMs: () => 0,
    onCancelled: () => undefined,
  });
  const state = { record: sessionRecord({}) as SessionRecord | null };
  const records = { load: () => Promise.resolve(state.record) };
  const reuse = new SegmentReuse({ storeDir: directory, stage: 0, engine, sessions, records });
  try {
    await fill(directory, DONOR, ['3-0-0-512', '3-0-512-1536', '3-0-1536-2000']);
    await run({ directory, reuse, sessions, disk, state });
  } finally {
    await rm(directory, { recursive: true });
  }
}

async function fill(directory: string, sessionId: string, stems: readonly string[]): Promise<void> {
  const folder = join(directory, sessionId);
  await mkdir(folder, { recursive: true, mode: 0o700 });
  for (const stem of stems) {
    await writeFile(join(folder, `${stem}.k`), `keys of ${stem}`, { mode: 0o600 });
    await writeFile(join(folder, `${stem}.v`), `values of ${stem}`, { mode: 0o600 });
  }
}

const WHOLE = { taker: TAKER, source: SOURCE, beginToken: 0, endToken: 1536 };

test('segments are linked, not copied, under the name of the plan that takes them', async () => {
  await inStore(async ({ directory, reuse }) => {
    const want = [
      { beginToken: 0, endToken: 512, bytes: 36 },
      { beginToken: 512, endToken: 1536, bytes: 42 },
    ];
    assert.deepEqual(await reuse.reuse(WHOLE), want);
    const folder = join(directory, SESSION);
    assert.deepEqual((await readdir(folder)).sort(), [
      ...['1-0-0-512.k', '1-0-0-512.v', '1-0-512-1536.k', '1-0-512-1536.v'],
    ]);
    assert.equal(statSync(folder).mode & 0o777, 0o700);
    const linked = statSync(join(folder, '1-0-512-1536.k'));
    assert.equal(linked.ino, statSync(join(directory, DONOR, '3-0-512-1536.k')).ino);
    assert.deepEqual(await reuse.reuse(WHOLE), want, 'asked again');
    assert.equal(linked.nlink, 2);
    assert.equal(await removeSessionFiles(directory, DONOR, 3), 44, 'only the third chunk is free');
    assert.equal(await readFile(join(folder, '1-0-0-512.v'), 'utf8'), 'values of 3-0-0-512');
  });
});

test('a range may begin after the first chunk, one link call a chunk', async () => {
  await inStore(async ({ reuse }) => {
    await reuse.reuse({ ...WHOLE, endToken: 512 });
    const more = await reuse.reuse({ ...WHOLE, beginToken: 512 });
    assert.deepEqual(more, [{ beginToken: 512, endToken: 1536, bytes: 42 }]);
  });
});

const lacking: { name: string; spoil: (folder: string) => Promise<void> }[] = [
  { name: 'has lost a V file', spoil: (folder) => unlink(join(folder, '3-0-512-1536.v')) },
  { name: 'has lost a K file', spoil: (folder) => unlink(join(folder, '3-0-512-1536.k')) },
  { name: 'is gone', spoil: (folder) => rm(folder, { recursive: true }) },
  { name: 'has a file that others can read', spoil: (f) => chmod(join(f, '3-0-0-512.k'), 0o644) },
  {
    name: 'has a symbolic link for a file',
    spoil: async (folder) => {
      await unlink(join(folder, '3-0-512-1536.k'));
      await symlink(join(folder, '3-0-0-512.k'), join(folder, '3-0-512-1536.k'));
    },
  },
];

for (const { name, spoil } of lacking) {
  test(`nothing is linked from a source that ${name}`, async () => {
    await inStore(async ({ directory, reuse }) => {
      await spoil(join(directory, DONOR));
      await assert.rejects(reuse.reuse(WHOLE), refusedWith('SESSION_NOT_FOUND'));
      assert.ok(!existsSync(join(directory, SESSION)));
    });
  });
}

test('a range that ends inside a segment, or an epoch that the source has not, is not there', async () => {
  await inStore(async ({ directory, reuse }) => {
    for (const wrong of [{ endToken: 1024 }, { source: { ...SOURCE, epoch: 2 } }]) {
      await assert.rejects(reuse.reuse({ ...WHOLE, ...wrong }), refusedWith('SESSION_NOT_FOUND'));
    }
    assert.ok(!existsSync(join(directory, SESSION)));
  });
});

test('what was linked is taken back when another file is in the way', async () => {
  await inStore(async ({ directory, reuse }) => {
    await fill(directory, SESSION, ['1-0-512-1536']);
    await assert.rejects(reuse.reuse(WHOLE), refusedWith('SESSION_BUSY'));
    const folder = join(directory, SESSION);
    assert.deepEqual((await readdir(folder)).sort(), ['1-0-512-1536.k', '1-0-512-1536.v']);
    assert.equal(await readFile(join(folder, '1-0-512-1536.k'), 'utf8'), 'keys of 1-0-512-1536');
  });
});

test("the taker's folder must be ours alone, and no link to another one", async () => {
  await inStore(async ({ directory, reuse }) => {
    const folder = join(directory, SESSION);
    await mkdir(join(directory, 'elsewhere'), { mode: 0o700 });
    await symlink(join(directory, 'elsewhere'), folder);
    await assert.rejects(reuse.reuse(WHOLE), refusedWith('BAD_REQUEST'));
    assert.deepEqual(await readdir(join(directory, 'elsewhere')), []);
    await assert.rejects(removeSessionFiles(directory, SESSION, 9), refusedWith('BAD_REQUEST'));
    await unlink(folder);
    await mkdir(folder, { mode: 0o755 });
    await chmod(folder, 0o755);
    await writeFile(join(folder, '1-0-512-600.k'), '');
    await assert.rejects(reuse.reuse(WHOLE), refusedWith('BAD_REQUEST'));
    assert.deepEqual(await readdir(folder), ['1-0-512-600.k']);
  });
});

const over: { name: string; record: SessionRecord | null; code: ErrorCode }[] = [
  { name: 'has no record', record: null, code: 'SESSION_NOT_FOUND' },
  { name: 'is at another epoch', record: sessionRecord({ epoch: 2 }), code: 'STALE_EPOCH' },
  { name: 'has ended', record: sessionRecord({ state: 'cancelled' }), code: 'SESSION_ENDED' },
  {
    name: 'has less memory reserved',
    record: sessionRecord({ reservation: { storeId: 's', bytes: 1, tokens: 1535 } }),
    code: 'RESERVATION_EXCEEDED',
  },
];

for (const { name, record, code } of over) {
  test(`a session that ${name} gets no segments`, async () => {
    await inStore(async ({ directory, reuse, state }) => {
      state.record = record;
      await assert.rejects(reuse.reuse(WHOLE), refusedWith(code));
      assert.ok(!existsSync(join(directory, SESSION)));
    });
  });
}

test('a released session gets no segments, even if its release comes while they are linked', async () => {
  await inStore(async ({ directory, reuse, sessions }) => {
    const linking = assert.rejects(reuse.reuse(WHOLE), refusedWith('STALE_EPOCH'));
    await sessions.release(SESSION, 1);
    await linking;
    assert.ok(!existsSync(join(directory, SESSION)));
    await assert.rejects(reuse.reuse(WHOLE), refusedWith('STALE_EPOCH'));
  });
});

test('a session that is open here takes no segments that it would not see', async () => {
  await inStore(async ({ directory, reuse, sessions, disk }) => {
    const key = { ...TAKER, stage: 0, fingerprint: '1'.repeat(32), origins: [] };
    await sessions.open(key, null);
    await assert.rejects(reuse.reuse(WHOLE), refusedWith('SESSION_BUSY'));
    assert.ok(!existsSync(join(directory, SESSION)));
    const adopted = { beginToken: 0, endToken: 1536, bytes: 7 };
    disk.get(`${SESSION} 1`)?.push(adopted);
    assert.deepEqual(await reuse.reuse(WHOLE), [adopted], 'those that it has are fine');
  });
});

test('an earlier plan of the same session is released once its segments are linked', async () => {
  await inStore(async ({ directory, reuse, sessions, state }) => {
    await fill(directory, SESSION, ['1-0-0-512', '1-0-512-600']);
    await sessions.open({ ...TAKER, stage: 0, fingerprint: '1'.repeat(32), origins: [] }, null);
    state.record = sessionRecord({ epoch: 2 });
    const request = {
      taker: { sessionId: SESSION, epoch: 2 },
      source: TAKER,
      beginToken: 0,
      endToken: 512,
    };
    const want = [{ beginToken: 0, endToken: 512, bytes: 36 }];
    assert.deepEqual(await reuse.reuse(request), want);
    assert.equal(sessions.count, 0, 'the earlier plan is closed');
    const folder = join(directory, SESSION);
    assert.deepEqual((await readdir(folder)).sort(), ['2-0-0-512.k', '2-0-0-512.v']);
    assert.deepEqual(await reuse.reuse(request), want, 'asked again, with the source gone');
    assert.throws(() => {
      sessions.refuseStale(SESSION, 1);
    }, refusedWith('STALE_EPOCH'));
  });
});
