import assert from '../support/assert.js';
import { randomBytes } from 'node:crypto';
import { after, before, test } from 'node:test';
import { Redis } from 'ioredis';
import { ServingError } from '../../services/domain/serving-error.js';
import type { SessionRecord } from '../../services/domain/session-record.js';
import { makeLog } from '../../services/platform/log.js';
import { redisOptions } from '../../services/platform/redis-url.js';
import {
  openSessionStore,
  type OpenSessionStore,
} from '../../services/platform/session-store/open-session-store.js';
import { startRedis, type TestRedis } from '../support/redis-server.js';
import { newRecord } from '../support/session-record.js';

let server: TestRedis;
let store: OpenSessionStore;
let redis: Redis;

before(async () => {
  server = await startRedis();
  store = await openSessionStore(server.url, makeLog('test', 'silent'));
  redis = new Redis(redisOptions(server.url));
});

after(async () => {
  await store.close();
  redis.disconnect();
  await server.stop();
});

const newId = (): string => randomBytes(16).toString('hex');

async function created(driverId = 'router-1'): Promise<SessionRecord> {
  const record = newRecord(newId());
  await store.records.create(record, driverId);
  return record;
}

test('a record is read back as it was created, at revision 1, and is active', async () => {
  const record = await created();
  assert.deepEqual(await store.records.load(record.sessionId), { ...record, revision: 1 });
  assert.ok((await store.records.activeSessionIds()).includes(record.sessionId));
  const other = { ...record, tenant: 'another' };
  await assert.rejects(store.records.create(other, 'router-1'), { code: 'SESSION_BUSY' });
  assert.deepEqual(await store.records.load(record.sessionId), { ...record, revision: 1 });
});

test('a record that does not exist loads as null', async () => {
  assert.equal(await store.records.load(newId()), null);
});

test('compareAndSet writes once per revision and only for the lease holder', async () => {
  const record = await created();
  const next = { ...record, state: 'prefilling' as const };
  const written = await store.records.compareAndSet(record, next, 'router-1');
  assert.equal(written?.revision, 2);
  assert.deepEqual(await store.records.load(record.sessionId), written);
  const late = { ...next, nextToken: 512 };
  assert.equal(await store.records.compareAndSet(record, late, 'router-1'), null, 'stale revision');
  assert.equal(await store.records.compareAndSet(written, next, 'router-2'), null, 'no lease');
});

test('of many writers of one revision exactly one wins', async () => {
  const record = await created();
  const writes = Array.from({ length: 20 }, (_, nextToken) =>
    store.records.compareAndSet(record, { ...record, nextToken }, 'router-1'),
  );
  const won = (await Promise.all(writes)).filter((written) => written !== null);
  assert.equal(won.length, 1);
  assert.deepEqual(await store.records.load(record.sessionId), won[0]);
});

test('an ended record is no longer active, expires, and does not come back to life', async () => {
  const record = await created();
  await store.tokenIds.put(record.sessionId, 0, Uint32Array.of(1, 2));
  await store.events.append(record.sessionId, 1, { type: 'queued', workerId: 'w', jobsAhead: 1 });
  const key = `longshadow:session:${record.sessionId}`;
  assert.equal(await redis.pttl(key), -1, 'a living session has no time to live');
  const ended = await store.records.compareAndSet(
    record,
    { ...record, state: 'cancelled' },
    'router-1',
  );
  assert.ok(ended);
  assert.ok(!(await store.records.activeSessionIds()).includes(record.sessionId));
  for (const part of ['', ':events', ':stream', ':tokens', ':tokens:0']) {
    const left = await redis.pttl(key + part);
    assert.ok(left > 590_000 && left <= 600_000, `${part} lives ${String(left)} ms`);
  }
  assert.equal(
    await store.records.compareAndSet(ended, { ...ended, state: 'kept' }, 'router-1'),
    null,
  );
  await store.records.expireEnded(record.sessionId);
  assert.ok((await redis.pttl(key)) > 590_000);
});

test('expireEnded leaves a living session alone', async () => {
  const { sessionId } = await created();
  await store.records.expireEnded(sessionId);
  assert.equal(await redis.pttl(`longshadow:session:${sessionId}`), -1);
  assert.ok((await store.records.activeSessionIds()).includes(sessionId));
});

test('a record of another schema version is DATA_LOSS that says so, not a wrong record', async () => {
  const { sessionId } = await created();
  const { attempt, origins, ...older } = newRecord(sessionId);
  assert.deepEqual([attempt, origins.length], [0, 1]);
  for (const other of [
    { ...older, schemaVersion: 1, turn: 0 },
    { ...older, schemaVersion: 2 },
    { ...older, schemaVersion: 3 },
    { ...older, schemaVersion: 5 },
  ]) {
    await redis.hset(`longshadow:session:${sessionId}`, 'record', JSON.stringify(other));
    await assert.rejects(store.records.load(sessionId), {
      code: 'DATA_LOSS',
      message: /session record in Redis has another form \(schemaVersion: .*4/,
    });
  }
});

const badIds = ['', 'abc', 'G'.repeat(32), 'A'.repeat(32), `${'a'.repeat(32)}:lease`, '../../etc'];
for (const id of badIds) {
  test(`no key is made of the session id "${id}"`, async () => {
    const refused = { name: 'ServingError', code: 'BAD_REQUEST' };
    await assert.rejects(store.records.load(id), refused);
    await assert.rejects(store.records.takeLease(id, 'd'), refused);
    await assert.rejects(store.events.beginTurn(id), refused);
    await assert.rejects(store.tokenIds.get(id, 0, 1), refused);
    await assert.rejects(store.reservations.reserve('s', id, 1, 1), refused);
  });
}

test('every key starts with longshadow:', async () => {
  await created();
  const keys = await redis.keys('*');
  assert.ok(keys.length > 0);
  assert.deepEqual(
    keys.filter((key) => !key.startsWith('longshadow:')),
    [],
  );
});

test('token ids of one chunk, of a part, and across chunks are read back exactly', async () => {
  const { sessionId } = await created();
  const ids = Uint32Array.from({ length: 5_000 }, (_, i) => (i * 2_654_435_761) >>> 0);
  await store.tokenIds.put(sessionId, 0, ids.subarray(0, 2_048));
  await store.tokenIds.put(sessionId, 2_048, ids.subarray(2_048, 4_096));
  await store.tokenIds.put(sessionId, 4_096, ids.subarray(4_096));
  const ranges = [
    [0, 2_048],
    [2_048, 4_096],
    [0, 5_000],
    [100, 4_999],
    [4_999, 5_000],
    [7, 7],
  ];
  for (const [begin = 0, end = 0] of ranges) {
    assert.deepEqual(await store.tokenIds.get(sessionId, begin, end), ids.slice(begin, end));
  }
});

test('token ids that are put again take the place of the old ones, however they are cut', async () => {
  const { sessionId } = await created();
  const put = async (begin: number, ...ids: number[]) =>
    store.tokenIds.put(sessionId, begin, Uint32Array.from(ids));
  const get = async (begin: number, end: number) => [
    ...(await store.tokenIds.get(sessionId, begin, end)),
  ];
  await put(0, 1, 2, 3, 4);
  await put(4, 5, 6);
  await put(6, 7, 8); // a turn that was refused, in two chunks
  await put(4, 50, 60, 70); // and the one that took its place
  await put(7); // nothing
  await assert.rejects(get(0, 8), { code: 'DATA_LOSS' }, 'the old end is gone');
  await put(7, 80);
  assert.deepEqual(await get(0, 8), [1, 2, 3, 4, 50, 60, 70, 80]);
  assert.deepEqual(await get(6, 8), [70, 80], 'no old chunk begins at 6');
  await put(2, 30);
  assert.deepEqual(await get(1, 3), [2, 30]);
  await assert.rejects(get(2, 4), { code: 'DATA_LOSS' }, 'not the old id behind the new ones');
});

test('token ids that are absent or damaged are DATA_LOSS', async () => {
  const { sessionId } = await created();
  await store.tokenIds.put(sessionId, 0, Uint32Array.of(1, 2, 3));
  await assert.rejects(store.tokenIds.get(sessionId, 0, 4), { code: 'DATA_LOSS' });
  await assert.rejects(store.tokenIds.get(sessionId, 3, 4), { code: 'DATA_LOSS' });
  await assert.rejects(store.tokenIds.get(newId(), 0, 1), { code: 'DATA_LOSS' });
  await redis.setrange(`longshadow:session:${sessionId}:tokens:0`, 5, 'x');
  await assert.rejects(store.tokenIds.get(sessionId, 0, 3), { code: 'DATA_LOSS' });
});

test("the driver's lease renews the token ids of a living session", async () => {
  const { sessionId } = await created();
  await store.tokenIds.put(sessionId, 0, Uint32Array.of(1));
  const keys = ['', ':0'].map((part) => `longshadow:session:${sessionId}:tokens${part}`);
  for (const key of keys) await redis.pexpire(key, 1_000_000);
  await store.records.takeLease(sessionId, 'router-1');
  for (const key of keys) assert.ok((await redis.pttl(key)) > 3_500_000, key);
});

test('reservations fill a store up to its capacity and are idempotent per session', async () => {
  const [a, b] = [newId(), newId()];
  const promised = store.reservations;
  assert.equal(await promised.reserve('store-1', a, 60, 100), true);
  assert.equal(await promised.reserve('store-1', b, 41, 100), false);
  assert.equal(await promised.reserve('store-1', b, 40, 100), true);
  assert.equal(await promised.reserve('store-1', a, 60, 100), true, 'the same again');
  assert.equal(await promised.reservedBytes('store-1'), 100);
  assert.equal(await promised.reserve('store-1', a, 61, 100), false, 'a larger one does not fit');
  assert.equal(await promised.reservedBytes('store-1'), 100, 'and leaves the old one');
  await promised.release('store-1', a);
  await promised.release('store-1', a);
  assert.equal(await promised.reservedBytes('store-1'), 40);
  assert.equal(await promised.reservedBytes('store-2'), 0);
});

test('a terabyte is reserved exactly', async () => {
  const bytes = 2 ** 50 + 1;
  assert.equal(await store.reservations.reserve('big', newId(), bytes, 2 ** 51), true);
  assert.equal(await store.reservations.reservedBytes('big'), bytes);
});

test('reservations of sessions that are gone are dropped, those in admission are not', async () => {
  const living = await created();
  const [gone, young] = [newId(), newId()];
  await redis.hset('longshadow:reservations:store-3', {
    [gone]: '70 1000',
    [living.sessionId]: '20 1000',
  });
  assert.equal(await store.reservations.reserve('store-3', young, 10, 100), true);
  assert.equal(await store.reservations.reservedBytes('store-3'), 30);
});

test('errors of Redis itself that are no outage stay errors', async () => {
  const { sessionId } = await created();
  await redis.set(`longshadow:session:${sessionId}:events`, 'not a stream');
  await assert.rejects(
    store.events.read(sessionId, 0, 10),
    (error) => error instanceof Error && !(error instanceof ServingError),
  );
});
