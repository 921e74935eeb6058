import assert from '../../support/assert.js';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { ServingError } from '../../../services/domain/serving-error.js';
import type { SessionRecord } from '../../../services/domain/session-record.js';
import { removeSessionFiles } from '../../../services/worker/values/session-files.js';
import { removeStaleSessions } from '../../../services/worker/values/remove-stale-sessions.js';
import { sessionRecord } from './fake-prefill.js';

const [ALIVE, ENDED, ABSENT] = ['1', '2', '3'].map((digit) => digit.repeat(32)) as [
  string,
  string,
  string,
];

async function inStore(run: (directory: string) => Promise<void>): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), 'longshadow-store-'));
  try {
    for (const sessionId of [ALIVE, ENDED, ABSENT]) {
      await mkdir(join(directory, sessionId), { mode: 0o700 });
      for (const name of ['1-0-0-512.k', '1-0-0-512.v', '2-0-0-512.k', '2-0-512-600.v.tmp-9-1']) {
        await writeFile(join(directory, sessionId, name), 'x'.repeat(100));
      }
    }
    await run(directory);
  } finally {
    await rm(directory, { recursive: true });
  }
}

function records(load: (sessionId: string) => SessionRecord | null) {
  return { load: (sessionId: string) => Promise.resolve(load(sessionId)) };
}

function neverUnreadable(sessionId: string): void {
  assert.fail(`${sessionId} is readable`);
}

test("a record of another version keeps its session's files and stops nothing", async () => {
  await inStore(async (directory) => {
    const kept: string[] = [];
    const newer = records((sessionId) => {
      if (sessionId === ALIVE) throw new ServingError('DATA_LOSS', 'schemaVersion: 2');
      return null;
    });
    assert.equal(await removeStaleSessions(directory, newer, (id) => kept.push(id)), 800);
    assert.deepEqual(kept, [ALIVE]);
    assert.ok(existsSync(join(directory, ALIVE, '1-0-0-512.k')));
    assert.ok(!existsSync(join(directory, ENDED)));
  });
});

test('a start removes absent and ended sessions and older epochs, and nothing else', async () => {
  await inStore(async (directory) => {
    const removedBytes = await removeStaleSessions(
      directory,
      records((sessionId) =>
        sessionId === ABSENT
          ? null
          : sessionRecord({ epoch: 2, state: sessionId === ENDED ? 'finished' : 'kept' }),
      ),
      neverUnreadable,
    );
    assert.equal(removedBytes, 1000);
    assert.ok(!existsSync(join(directory, ABSENT)));
    assert.ok(!existsSync(join(directory, ENDED)));
    assert.ok(!existsSync(join(directory, ALIVE, '1-0-0-512.k')));
    assert.ok(existsSync(join(directory, ALIVE, '2-0-0-512.k')));
    assert.ok(existsSync(join(directory, ALIVE, '2-0-512-600.v.tmp-9-1')));
  });
});

test('a start removes nothing when Redis goes away half-way', async () => {
  await inStore(async (directory) => {
    let loads = 0;
    const unreachable = records(() => {
      if (++loads === 3) throw new ServingError('REDIS_UNAVAILABLE', 'gone');
      return null;
    });
    await assert.rejects(removeStaleSessions(directory, unreachable, neverUnreadable));
    for (const sessionId of [ALIVE, ENDED, ABSENT]) {
      assert.ok(existsSync(join(directory, sessionId, '1-0-0-512.k')));
    }
  });
});

test('a release takes one session up to its epoch; an unknown one is a success', async () => {
  await inStore(async (directory) => {
    assert.equal(await removeSessionFiles(directory, ALIVE, 1), 200);
    assert.ok(existsSync(join(directory, ALIVE, '2-0-0-512.k')));
    assert.equal(await removeSessionFiles(directory, ALIVE, 2), 200);
    assert.ok(!existsSync(join(directory, ALIVE)));
    assert.equal(await removeSessionFiles(directory, ALIVE, 2), 0);
    assert.ok(existsSync(join(directory, ENDED)));
    await assert.rejects(removeSessionFiles(directory, '../x', 1), ServingError);
  });
});

test("a folder under a segment's name stays, and keeps nothing else from going", async () => {
  await inStore(async (directory) => {
    const planted = join(directory, ALIVE, '1-0-512-1024.k');
    await mkdir(planted);
    await writeFile(join(planted, 'x'), 'not ours to remove');
    assert.equal(await removeSessionFiles(directory, ALIVE, 2), 400);
    assert.deepEqual(await readdir(join(directory, ALIVE)), ['1-0-512-1024.k']);
    assert.ok(existsSync(join(planted, 'x')));
    const removed = await removeStaleSessions(
      directory,
      records(() => null),
      neverUnreadable,
    );
    assert.equal(removed, 800, 'a start gets past it too');
  });
});

test('a store whose directory is not there yet holds nothing', async () => {
  assert.equal(
    await removeStaleSessions(
      '/nonexistent/store',
      records(() => null),
      neverUnreadable,
    ),
    0,
  );
});
