import assert from '../support/assert.js';
import {
  chmodSync,
  chownSync,
  copyFileSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { userInfo } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { createClusterDirectories } from '../../services/cli/cluster/cluster-directories.js';
import { startServiceChild } from '../../services/cli/cluster/service-child.js';
import { openEngineHost } from '../../services/engine-host/engine-host.js';
import { makeClient, unaryCall } from '../../services/platform/rpc/client.js';
import type { ServiceTypes } from '../../services/platform/rpc/load-service.js';
import { fromStatus } from '../../services/platform/rpc/status.js';
import { NEEDLE_MODEL } from '../support/cluster.js';
import { Lane, type LaneSession } from '../support/lane.js';
import { LaneDecode } from '../support/lane-decode.js';

/*
 * The value store lies in memory that all users of a host share. These tests are the neighbour who
 * plants links and squats names, and the caller who sends paths for ids.
 */

const TOKENS = 700;
const IDS = Array.from({ length: TOKENS }, (_, index) => 300 + (index % 900));
const WHOLE = { beginToken: 0, endToken: TOKENS };
const SEALED = { beginToken: TOKENS, endToken: TOKENS };

let folder: string;
let lane: Lane;
before(async () => {
  folder = mkdtempSync('/dev/shm/longshadow-test-');
  lane = await Lane.start();
});
after(async () => {
  await lane.stop();
  rmSync(folder, { recursive: true, force: true });
});

/** A folder as a neighbour may make it, with a file that must be there after all. */
function bait(
  name: string,
  mode = 0o700,
): { readonly path: string; readonly isUntouched: () => boolean } {
  const path = mkdtempSync(join(folder, `${name}-`));
  writeFileSync(join(path, 'kept'), 'kept', { mode: 0o600 });
  chmodSync(path, mode);
  return {
    path,
    isUntouched: () =>
      readdirSync(path).join() === 'kept' && readFileSync(join(path, 'kept'), 'utf8') === 'kept',
  };
}

const BAD_STORES: readonly (readonly [string, () => string, RegExp])[] = [
  [
    'that the group may write to',
    () => bait('group', 0o770).path,
    /open to other users.*chmod 700/,
  ],
  ['that the group may read', () => bait('readable', 0o750).path, /open to other users/],
  ['of everyone', () => bait('everyone', 0o1777).path, /open to other users/],
  ['that is a link', () => linkTo(bait('target').path), /symbolic link/],
  ['that is a link, with a slash', () => `${linkTo(bait('slashed').path)}/`, /symbolic link/],
  ['that is a link to nothing', () => linkTo(join(folder, 'nothing')), /symbolic link/],
  ['that is a file', () => join(bait('file').path, 'kept'), /not a folder/],
  ['of another user', foreignFolder, /belongs to another user/],
];

function linkTo(target: string): string {
  const path = join(mkdtempSync(join(folder, 'link-')), 'store');
  symlinkSync(target, path);
  return path;
}

/** Only root can give a folder away; for others root's own will do. */
function foreignFolder(): string {
  if (userInfo().uid !== 0) return '/';
  const { path } = bait('foreign');
  chownSync(path, 12_345, 12_345);
  return path;
}

for (const [what, make, message] of BAD_STORES) {
  test(`worker and decode open no store ${what}`, async () => {
    const storeDir = make();
    for (const role of ['worker', 'decode'] as const) {
      const settings = {
        modelDir: NEEDLE_MODEL,
        modelName: null,
        device: 'cpu',
        dtype: 'bf16',
        threads: 1,
        storeDir,
        memberId: null,
      } as const;
      await assert.rejects(openEngineHost(role, settings, 0), { code: 'BAD_REQUEST', message });
    }
  });
}

test('a service whose store is not safe does not start, and says why', async () => {
  const { path, isUntouched } = bait('unsafe', 0o770);
  for (const role of ['worker', 'decode'] as const) {
    const prefix = role.toUpperCase();
    const environment = {
      ...process.env,
      LONGSHADOW_EXIT_WITH_PARENT: '1',
      REDIS_URL: lane.redis.url,
      [`${prefix}_LISTEN`]: '127.0.0.1:0',
      [`${prefix}_MODEL_DIR`]: NEEDLE_MODEL,
      [`${prefix}_STORE_DIR`]: path,
    };
    await assert.rejects(
      startServiceChild(role, environment, 60_000, () => undefined),
      { code: 'BAD_REQUEST', message: /open to other users; its mode must be 0700/ },
    );
  }
  assert.ok(isUntouched());
});

test("a local cluster makes no store in a link, nor in a neighbour's folder", () => {
  for (const make of [
    () => linkTo(bait('base').path),
    () => bait('base', 0o777).path,
    foreignFolder,
  ]) {
    const base = make();
    const before = readdirSync(base);
    assert.throws(() => createClusterDirectories(base), {
      code: 'BAD_REQUEST',
      message: /--store/,
    });
    assert.deepEqual(readdirSync(base), before);
  }
});

/** Where a session's files lie, or would. */
function folderOf({ record }: LaneSession): string {
  return join(lane.storeDirectory, record.sessionId);
}

test("a link in the place of a session's folder is not followed, neither to write nor to remove", async () => {
  const { path, isUntouched } = bait('session');
  const session = await lane.open(IDS);
  symlinkSync(path, folderOf(session));
  await assert.rejects(lane.run(session, WHOLE), /symbolic link/);
  await lane.releaseWorker(session).catch(() => 0);
  assert.ok(isUntouched());
  unlinkSync(folderOf(session));
});

test("a squatted folder of a session is not used: another user's, or open to others", async () => {
  const owners = userInfo().uid === 0 ? [0, 12_345] : [userInfo().uid];
  for (const uid of owners) {
    const session = await lane.open(IDS);
    mkdirSync(folderOf(session));
    chmodSync(folderOf(session), uid === userInfo().uid ? 0o777 : 0o700);
    chownSync(folderOf(session), uid, userInfo().gid);
    await assert.rejects(lane.run(session, WHOLE), /another user|open to other users/);
    assert.deepEqual(readdirSync(folderOf(session)), []);
    rmSync(folderOf(session), { recursive: true });
  }
});

test('links in the place of segments are replaced by files of our own, and their target is left alone', async () => {
  const { path, isUntouched } = bait('segment');
  const session = await lane.open(IDS);
  mkdirSync(folderOf(session), { mode: 0o700 });
  for (const end of ['k', 'v']) {
    symlinkSync(join(path, 'kept'), join(folderOf(session), `1-0-0-${String(TOKENS)}.${end}`));
  }
  await lane.run(session, WHOLE);
  assert.ok(isUntouched());
  for (const name of readdirSync(folderOf(session))) {
    assert.ok(lstatSync(join(folderOf(session), name)).isFile(), name);
  }
  await lane.releaseWorker(session);
  assert.ok(!existsSync(folderOf(session)));
});

const SWAPS: readonly (readonly [string, (path: string) => void])[] = [
  [
    'a link to a copy of itself',
    (path) => {
      const copy = join(mkdtempSync(join(folder, 'copy-')), 'segment');
      copyFileSync(path, copy);
      chmodSync(copy, 0o600);
      unlinkSync(path);
      symlinkSync(copy, path);
    },
  ],
  [
    'a file that others may read',
    (path) => {
      chmodSync(path, 0o644);
    },
  ],
  [
    'a folder',
    (path) => {
      renameSync(path, `${path}.old`);
      mkdirSync(path, { mode: 0o700 });
    },
  ],
];

for (const [what, swap] of SWAPS) {
  test(`a finished segment that became ${what} is never decoded`, async () => {
    const session = await lane.open(IDS);
    await lane.run(session, WHOLE);
    await lane.run(session, SEALED);
    const names = readdirSync(folderOf(session));
    assert.deepEqual(names.sort(), [`1-0-0-${String(TOKENS)}.k`, `1-0-0-${String(TOKENS)}.v`]);
    for (const name of names)
      assert.equal(lstatSync(join(folderOf(session), name)).mode & 0o777, 0o600);
    swap(join(folderOf(session), `1-0-0-${String(TOKENS)}.v`));
    await assert.rejects(lane.startDecode(session), { code: 'DATA_LOSS' });
    await lane.releaseDecode(session).catch(() => 0);
    await lane.releaseWorker(session).catch(() => 0);
    rmSync(folderOf(session), { recursive: true, force: true });
  });
}

async function handOff(client: ServiceTypes['worker']['client'], sessionId: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const stream = client.getHandOff({ sessionId, epoch: 1 });
    stream.on('data', () => undefined);
    stream.on('end', resolve);
    stream.on('error', (error) => {
      reject(fromStatus(error));
    });
  });
}

test('what is no session id is refused by worker and decode before it becomes a path', async () => {
  const { path, isUntouched } = bait('path');
  const session = await lane.open(IDS);
  const members = await lane.store.fleet.members();
  const worker = members.find(({ role }) => role === 'worker');
  assert.ok(worker);
  const client = makeClient('worker', worker.address, null);
  const { sessionId: good } = session.record;
  const wrong = [
    '',
    '.',
    '..',
    `../${path.slice('/dev/shm/'.length)}`,
    '../../../../../../../../../tmp/x',
    path,
    good.toUpperCase().replace(/\d/g, 'A'),
    `${good}/`,
    `${good}\n`,
    `${good}\0`,
    good.slice(1),
    `${good}0`,
  ];
  const reuse = (sessionId: string, sourceSessionId: string) =>
    unaryCall(
      client,
      'reuseSegments',
      { sessionId, epoch: 1, sourceSessionId, sourceEpoch: 1, beginToken: 0, endToken: 512 },
      { timeoutMs: 10_000 },
    );
  const decode = new LaneDecode(lane.decode);
  try {
    for (const sessionId of wrong) {
      const other = { ...session, record: { ...session.record, sessionId } };
      const refused: Record<string, () => Promise<unknown>> = {
        'worker.GetHandOff': () => handOff(client, sessionId),
        'worker.ReleaseSession': () => lane.releaseWorker(other),
        'worker.ReuseSegments, taker': () => reuse(sessionId, good),
        'worker.ReuseSegments, source': () => reuse(good, sessionId),
        'decode.StartSession': () => lane.startDecode(other),
        'decode.AppendTurn': () => decode.append(other.record, [300], TOKENS),
        'decode.ReleaseSession': () => lane.releaseDecode(other),
      };
      for (const [method, ask] of Object.entries(refused)) {
        const what = `${method} ${JSON.stringify(sessionId)}`;
        await assert.rejects(ask(), { code: 'BAD_REQUEST' }, what);
      }
    }
  } finally {
    client.close();
  }
  assert.ok(isUntouched());
  assert.deepEqual(readdirSync(lane.storeDirectory), []);
});
