import assert from '../support/assert.js';
import { randomBytes } from 'node:crypto';
import { after, before, test } from 'node:test';
import { Redis } from 'ioredis';
import type { SessionRecord } from '../../services/domain/session-record.js';
import type { PrefixDonor } from '../../services/domain/session-store.js';
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
const newChain = (): string => randomBytes(32).toString('hex');
const refused = { name: 'ServingError', code: 'BAD_REQUEST' };

async function keptSession(): Promise<SessionRecord> {
  const record = newRecord(newId());
  await store.records.create(record, 'router-1');
  const kept = await store.records.compareAndSet(record, { ...record, state: 'kept' }, 'router-1');
  assert.ok(kept);
  return kept;
}

async function end(record: SessionRecord): Promise<void> {
  await store.records.compareAndSet(record, { ...record, state: 'finished' }, 'router-1');
}

test('kept sessions come back by their last use, the oldest first, store by store', async () => {
  const [a, b, c, elsewhere] = await Promise.all(Array.from({ length: 4 }, keptSession));
  assert.ok(a && b && c && elsewhere);
  const { kept } = store;
  await kept.touch('store-1', a.sessionId, 1_764_000_000_003);
  await kept.touch('store-1', b.sessionId, 1_764_000_000_001);
  await kept.touch('store-1', c.sessionId, 1_764_000_000_002.5);
  await kept.touch('store-2', elsewhere.sessionId, 1);
  const oldest = [b.sessionId, c.sessionId, a.sessionId];
  assert.deepEqual(await kept.leastRecentlyUsed('store-1', 10), oldest);
  assert.deepEqual(await kept.leastRecentlyUsed('store-1', 2), oldest.slice(0, 2));
  assert.deepEqual(await kept.leastRecentlyUsed('store-1', 0), []);
  await kept.touch('store-1', b.sessionId, 1_764_000_000_004);
  await kept.touch('store-1', a.sessionId, 5);
  assert.deepEqual(
    await kept.leastRecentlyUsed('store-1', 10),
    [c.sessionId, a.sessionId, b.sessionId],
    'used again; a touch that comes late changes nothing',
  );
  await kept.remove('store-1', c.sessionId);
  await kept.remove('store-1', c.sessionId);
  assert.deepEqual(await kept.leastRecentlyUsed('store-1', 1), [a.sessionId]);
  assert.deepEqual(await kept.leastRecentlyUsed('store-3', 1), []);
});

test('kept sessions that have ended or are gone are neither answered nor remembered', async () => {
  const [ended, living] = [await keptSession(), await keptSession()];
  await store.kept.touch('store-4', newId(), 1);
  await store.kept.touch('store-4', ended.sessionId, 2);
  await store.kept.touch('store-4', living.sessionId, 3);
  await end(ended);
  assert.deepEqual(await store.kept.leastRecentlyUsed('store-4', 1), [living.sessionId]);
  assert.equal(await redis.zcard('longshadow:kept:store-4'), 1);
});

test('what is no name or no time keeps nothing', async () => {
  await assert.rejects(store.kept.touch('a:b', newId(), 1), refused);
  await assert.rejects(store.kept.touch('store', 'x', 1), refused);
  await assert.rejects(store.kept.touch('store', newId(), Number.NaN), refused);
  await assert.rejects(store.kept.leastRecentlyUsed('', 1), refused);
});

function donorOf(sessionId: string, beginToken = 0): PrefixDonor {
  const endToken = beginToken + 2_048;
  return { sessionId, epoch: 3, beginToken, endToken, fingerprint: 'f'.repeat(32) };
}

test('an offered chunk is found by its chain, in its store, for an hour', async () => {
  const { sessionId } = await keptSession();
  const chunks = [0, 2_048, 4_096].map((begin) => ({
    chain: newChain(),
    donor: donorOf(sessionId, begin),
  }));
  await store.prefixes.publish('store', chunks);
  await store.prefixes.publish('store', []);
  for (const { chain, donor } of chunks) {
    assert.deepEqual(await store.prefixes.find('store', chain), donor);
    assert.equal(await store.prefixes.find('store-2', chain), null);
    const key = `longshadow:prefix:store:${chain}`;
    const left = await redis.pttl(key);
    assert.ok(left > 3_590_000 && left <= 3_600_000, `lives ${String(left)} ms`);
  }
  assert.equal(await store.prefixes.find('store', newChain()), null);
});

test('an offer that is repeated lives on', async () => {
  const { sessionId } = await keptSession();
  const offer = [{ chain: newChain(), donor: donorOf(sessionId) }];
  const key = `longshadow:prefix:store:${offer[0]?.chain ?? ''}`;
  await store.prefixes.publish('store', offer);
  await redis.pexpire(key, 1_000);
  await store.prefixes.publish('store', offer);
  assert.ok((await redis.pttl(key)) > 3_590_000);
});

test('the last to offer a chunk is found; only its own offers can be withdrawn', async () => {
  const [one, two] = [await keptSession(), await keptSession()];
  const [shared, own] = [newChain(), newChain()];
  const offer = async (sessionId: string, ...chains: string[]) =>
    store.prefixes.publish(
      'store',
      chains.map((chain) => ({ chain, donor: donorOf(sessionId) })),
    );
  const withdraw = async (sessionId: string) =>
    store.prefixes.withdraw('store', sessionId, [shared, newChain(), own]);
  await offer(one.sessionId, shared, own);
  await offer(two.sessionId, shared);
  assert.deepEqual(await store.prefixes.find('store', shared), donorOf(two.sessionId));
  await withdraw(one.sessionId);
  await withdraw(one.sessionId);
  assert.equal(await store.prefixes.find('store', own), null);
  assert.deepEqual(await store.prefixes.find('store', shared), donorOf(two.sessionId));
  await withdraw(two.sessionId);
  assert.equal(await store.prefixes.find('store', shared), null);
  await store.prefixes.withdraw('store', one.sessionId, []);
});

test("a million-token prompt's chunks are offered and withdrawn at once", async () => {
  const { sessionId } = await keptSession();
  const chains = Array.from({ length: 2_048 }, newChain);
  const chunks = chains.map((chain, n) => ({ chain, donor: donorOf(sessionId, n * 512) }));
  await store.prefixes.publish('large', chunks);
  assert.equal((await redis.keys('longshadow:prefix:large:*')).length, 2_048);
  await store.prefixes.withdraw('large', sessionId, chains);
  assert.equal((await redis.keys('longshadow:prefix:large:*')).length, 0);
});

test('an offer of a session that has ended or is gone is not found', async () => {
  const ended = await keptSession();
  const [chain, lost] = [newChain(), newChain()];
  await store.prefixes.publish('store', [
    { chain, donor: donorOf(ended.sessionId) },
    { chain: lost, donor: donorOf(newId()) },
  ]);
  await end(ended);
  assert.equal(await store.prefixes.find('store', chain), null);
  assert.equal(await store.prefixes.find('store', lost), null);
  assert.equal(await redis.exists(`longshadow:prefix:store:${chain}`), 0, 'and is dropped');
});

test('an offer of another form is no offer, and anybody may withdraw it', async () => {
  const { sessionId } = await keptSession();
  const donor = donorOf(sessionId);
  await store.events.append(sessionId, 1, { type: 'queued', workerId: 'w', jobsAhead: 1 });
  const wrong = [
    'no JSON',
    '7',
    'null',
    '{}',
    JSON.stringify({ ...donor, sessionId: `${sessionId}:events` }),
    JSON.stringify({ ...donor, sessionId: null }),
    JSON.stringify({ ...donor, endToken: -1 }),
    JSON.stringify({ ...donor, beginToken: 4_096 }),
    JSON.stringify({ ...donor, epoch: '3' }),
  ];
  for (const value of wrong) {
    const chain = newChain();
    await redis.set(`longshadow:prefix:store:${chain}`, value);
    assert.equal(await store.prefixes.find('store', chain), null, value);
  }
  const chain = newChain();
  await redis.set(`longshadow:prefix:store:${chain}`, 'no JSON');
  await store.prefixes.withdraw('store', sessionId, [chain]);
  assert.equal(await redis.exists(`longshadow:prefix:store:${chain}`), 0);
});

test('no key is made of what is no chain, no store or no session', async () => {
  const id = newId();
  for (const chain of ['', 'a', 'A'.repeat(64), `${'a'.repeat(64)}x`]) {
    await assert.rejects(store.prefixes.find('store', chain), refused);
    await assert.rejects(store.prefixes.withdraw('store', id, [chain]), refused);
    const offer = [{ chain, donor: donorOf(id) }];
    await assert.rejects(store.prefixes.publish('store', offer), refused);
  }
  await assert.rejects(store.prefixes.find('a:b', newChain()), refused);
  const offer = [{ chain: newChain(), donor: donorOf('x') }];
  await assert.rejects(store.prefixes.publish('store', offer), refused);
});
