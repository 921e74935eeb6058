import assert from '../support/assert.js';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Redis } from 'ioredis';
import {
  createClusterDirectories,
  processesOfCluster,
  processStartTicks,
  removeClusterDirectories,
  sweepDeadClusters,
  type ClusterDirectories,
} from '../../services/cli/cluster/cluster-directories.js';
import { startRedisChild, stopRedisChild } from '../../services/cli/cluster/redis-child.js';
import { ServingError } from '../../services/domain/serving-error.js';
import { poll } from '../support/poll.js';

let base = '';
before(() => {
  base = mkdtempSync(join(tmpdir(), 'longshadow-test-'));
});
after(() => {
  rmSync(base, { recursive: true, force: true });
});

const isAlive = (pid: number): boolean => processStartTicks(pid) !== null;

test('a Redis child answers on a socket only its user can open, and ends without a trace', async () => {
  const redis = await startRedisChild(base, process.env);
  const client = new Redis(redis.url.replace('unix://', ''));
  try {
    assert.equal(await client.set('key', 'value'), 'OK');
    assert.deepEqual(await client.config('GET', 'maxmemory-policy'), [
      'maxmemory-policy',
      'noeviction',
    ]);
    assert.deepEqual(await client.config('GET', 'port'), ['port', '0']);
  } finally {
    client.disconnect();
    await stopRedisChild(redis);
  }
  assert.ok(!isAlive(redis.child.pid));
  assert.deepEqual(readdirSync(base), []);
});

test('without a redis-server on PATH the error names the command and REDIS_URL', async () => {
  await assert.rejects(startRedisChild(base, { PATH: base }), (error) => {
    assert.ok(error instanceof ServingError);
    assert.equal(error.code, 'REDIS_UNAVAILABLE');
    assert.match(error.message, /apt-get install -y redis-server/);
    assert.match(error.message, /REDIS_URL/);
    return true;
  });
});

test('a Redis child that dies is seen to die', async () => {
  const redis = await startRedisChild(base, process.env);
  const client = new Redis(redis.url.replace('unix://', ''), { retryStrategy: () => null });
  client.on('error', () => undefined);
  await client.shutdown('NOSAVE').catch(() => undefined);
  await poll(
    () => redis.child.running,
    (running) => !running,
    5_000,
  );
  client.disconnect();
});

test('folders of dead clusters are swept, those of living ones stay', () => {
  const store = join(base, 'store');
  const living = createClusterDirectories(store);
  const dead = join(store, 'cluster-999999999-1-abcd');
  const reused = join(store, `cluster-${process.pid}-1-abcd`);
  const other = join(store, 'not-a-cluster');
  for (const path of [dead, reused, other]) mkdirSync(path);
  assert.deepEqual(sweepDeadClusters(store).sort(), [dead, reused].sort());
  assert.ok(existsSync(living.store) && existsSync(living.temporary) && existsSync(other));
  removeClusterDirectories(living);
  assert.ok(!existsSync(living.store) && !existsSync(living.temporary) && existsSync(other));
  rmSync(store, { recursive: true });
});

test('a store folder that others may write to is refused', () => {
  const path = join(base, 'world');
  mkdirSync(path);
  chmodSync(path, 0o777);
  assert.throws(() => createClusterDirectories(path), /others may write/);
});

test('after SIGKILL of the parent, Redis and the janitor end and the folders are gone', async () => {
  const script = fileURLToPath(new URL('../support/hold-redis.ts', import.meta.url));
  const store = join(base, 'killed');
  const parent = spawn(process.execPath, ['--import', 'tsx', script, store], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [line] = (await once(createInterface({ input: parent.stdout }), 'line')) as [string];
  const held = JSON.parse(line) as { directories: ClusterDirectories; pids: number[] };
  const { clusterId, store: storeFolder, temporary } = held.directories;
  // Keeper shell, its watcher (a shell and cat), redis-server, janitor.
  assert.ok(processesOfCluster(clusterId).length >= 4);
  assert.ok(existsSync(storeFolder) && existsSync(temporary));

  parent.kill('SIGKILL');
  await poll(
    () => [...processesOfCluster(clusterId), ...held.pids.filter(isAlive)],
    (left) => left.length === 0,
    10_000,
  );
  assert.ok(!existsSync(storeFolder) && !existsSync(temporary) && !existsSync(store));
});
