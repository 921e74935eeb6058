import assert from '../support/assert.js';
import { randomBytes } from 'node:crypto';
import { after, before, test } from 'node:test';
import { Redis } from 'ioredis';
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
const leaseKey = (sessionId: string): string => `longshadow:session:${sessionId}:lease`;

async function created(driverId = 'router-1'): Promise<SessionRecord> {
  const record = newRecord(newId());
  await store.records.create(record, driverId);
  return record;
}

test('a lease belongs to one driver until it is dropped or runs out', async () => {
  const { sessionId } = await created();
  assert.equal(await store.records.takeLease(sessionId, 'router-2'), 'elsewhere');
  assert.equal(await store.records.takeLease(sessionId, 'router-1'), 'held');
  const left = await redis.pttl(leaseKey(sessionId));
  assert.ok(left > 4_000 && left <= 5_000, `lives ${String(left)} ms`);
  await store.records.dropLease(sessionId, 'router-2');
  assert.equal(await store.records.leaseHolder(sessionId), 'router-1', 'not his to drop');
  await store.records.dropLease(sessionId, 'router-1');
  assert.equal(await store.records.leaseHolder(sessionId), null);
  assert.equal(await store.records.takeLease(sessionId, 'router-2'), 'held');
  assert.equal(await store.records.leaseHolder(sessionId), 'router-2');
  await redis.pexpire(leaseKey(sessionId), 0);
  assert.equal(await store.records.leaseHolder(sessionId), null, 'ran out');
  assert.equal(await store.records.takeLease(sessionId, 'router-1'), 'held');
});

test('renewing starts the life of the lease anew', async () => {
  const { sessionId } = await created();
  await redis.pexpire(leaseKey(sessionId), 500);
  assert.equal(await store.records.takeLease(sessionId, 'router-1'), 'held');
  assert.ok((await redis.pttl(leaseKey(sessionId))) > 4_000);
});

test('of many drivers that want a free session exactly one gets it', async () => {
  const { sessionId } = await created();
  await store.records.dropLease(sessionId, 'router-1');
  const drivers = Array.from({ length: 20 }, (_, n) => `router-${String(n)}`);
  const answers = await Promise.all(
    drivers.map(async (driver) => store.records.takeLease(sessionId, driver)),
  );
  assert.equal(answers.filter((answer) => answer === 'held').length, 1);
  assert.equal(answers.filter((answer) => answer === 'elsewhere').length, 19);
  assert.equal(await store.records.leaseHolder(sessionId), drivers[answers.indexOf('held')]);
});

test('a session that Redis does not know gives no lease, whoever held one', async () => {
  const id = newId();
  assert.equal(await store.records.takeLease(id, 'router-1'), 'gone');
  assert.equal(await redis.exists(leaseKey(id)), 0, 'nothing was taken');
  const { sessionId } = await created();
  await redis.del(`longshadow:session:${sessionId}`);
  assert.equal(await store.records.takeLease(sessionId, 'router-1'), 'gone');
  assert.equal(await store.records.takeLease(sessionId, 'router-2'), 'gone');
});

test('an ended session can still be driven until it is forgotten', async () => {
  const record = await created();
  await store.records.compareAndSet(record, { ...record, state: 'failed' }, 'router-1');
  assert.equal(await store.records.takeLease(record.sessionId, 'router-1'), 'held');
});

test('undriven are those that live and whose driver is gone, kept ones too', async () => {
  const driven = await created();
  const [left, kept, ended, lost] = [
    await created(),
    await created(),
    await created(),
    await created(),
  ];
  await store.records.compareAndSet(kept, { ...kept, state: 'kept' }, 'router-1');
  await store.records.compareAndSet(ended, { ...ended, state: 'finished' }, 'router-1');
  for (const { sessionId } of [left, ended]) await store.records.dropLease(sessionId, 'router-1');
  for (const { sessionId } of [kept, lost]) await redis.pexpire(leaseKey(sessionId), 0);
  await redis.del(`longshadow:session:${lost.sessionId}`);
  const ours = [driven, left, kept, ended, lost].map(({ sessionId }) => sessionId);
  const found = (await store.records.undrivenSessionIds()).filter((id) => ours.includes(id));
  assert.deepEqual(found.sort(), [left.sessionId, kept.sessionId].sort());
  const active = await store.records.activeSessionIds();
  assert.ok(!active.includes(lost.sessionId), 'one without a record is not asked for again');
  assert.ok(active.includes(driven.sessionId));
  await store.records.takeLease(left.sessionId, 'router-2');
  assert.ok(!(await store.records.undrivenSessionIds()).includes(left.sessionId));
});

test('a driver without a name that can be a key drives nothing', async () => {
  const { sessionId } = await created();
  for (const driver of ['', 'a b', '-x', 'x'.repeat(129)]) {
    const refused = { name: 'ServingError', code: 'BAD_REQUEST' };
    await assert.rejects(store.records.takeLease(sessionId, driver), refused);
    await assert.rejects(store.records.create(newRecord(newId()), driver), refused);
  }
});
