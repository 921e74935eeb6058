import assert from '../support/assert.js';
import { randomBytes } from 'node:crypto';
import { dirname } from 'node:path';
import { after, before, test } from 'node:test';
import { Redis } from 'ioredis';
import type { DriverRequest } from '../../services/domain/session-store.js';
import { makeLog } from '../../services/platform/log.js';
import { redisOptions } from '../../services/platform/redis-url.js';
import {
  openSessionStore,
  type OpenSessionStore,
} from '../../services/platform/session-store/open-session-store.js';
import { openConnection } from '../../services/platform/session-store/redis-connection.js';
import { makeSubscriptions } from '../../services/platform/session-store/subscriptions.js';
import { poll } from '../support/poll.js';
import { startRedis, type TestRedis } from '../support/redis-server.js';

const log = makeLog('test', 'silent');
let server: TestRedis;
let store: OpenSessionStore;
let redis: Redis;

before(async () => {
  server = await startRedis();
  store = await openSessionStore(server.url, log);
  redis = new Redis(redisOptions(server.url));
});

after(async () => {
  await store.close();
  redis.disconnect();
  await server.stop();
});

const newId = (): string => randomBytes(16).toString('hex');
const refused = { name: 'ServingError', code: 'BAD_REQUEST' };

test('a client is attached while a router says so', async () => {
  const id = newId();
  assert.equal(await store.clients.isAttached(id), false);
  await store.clients.attach(id, 'router-1');
  await store.clients.attach(id, 'router-1');
  assert.equal(await store.clients.isAttached(id), true);
  const left = await redis.pttl(`longshadow:session:${id}:clients`);
  assert.ok(left > 5_000 && left <= 6_000, `lives ${String(left)} ms`);
  await store.clients.detach(id, 'router-1');
  await store.clients.detach(id, 'router-1');
  assert.equal(await store.clients.isAttached(id), false);
});

test('a router that ends its relay does not take the client of another one along', async () => {
  const id = newId();
  await store.clients.attach(id, 'router-1');
  await store.clients.attach(id, 'router-2'); // the client came back there
  await store.clients.detach(id, 'router-1'); // and its old call was noticed late
  assert.equal(await store.clients.isAttached(id), true);
});

test('a router that died no longer counts, though another one kept the key alive', async () => {
  const id = newId();
  const key = `longshadow:session:${id}:clients`;
  await store.clients.attach(id, 'router-1');
  await redis.zadd(key, Date.now() - 1, 'router-1'); // as it stands 6 s later
  assert.equal(await store.clients.isAttached(id), false);
  await store.clients.attach(id, 'router-2');
  assert.deepEqual(await redis.zrange(key, 0, '-1'), ['router-2'], 'and is dropped');
  await redis.pexpire(key, 0);
  assert.equal(await store.clients.isAttached(id), false);
});

test('what is no name attaches nothing', async () => {
  await assert.rejects(store.clients.attach('x', 'router-1'), refused);
  await assert.rejects(store.clients.attach(newId(), 'a:b'), refused);
  await assert.rejects(store.clients.detach(newId(), ''), refused);
  await assert.rejects(store.clients.isAttached('../x'), refused);
});

/** Listens, and waits until Redis knows. */
async function listening(
  driverId: string,
): Promise<{ requests: DriverRequest[]; stop: () => void }> {
  const requests: DriverRequest[] = [];
  const stop = store.driverRequests.listen(driverId, (request) => requests.push(request));
  await subscribers(driverId, 1);
  return { requests, stop };
}

async function subscribers(driverId: string, count: number): Promise<void> {
  const channel = `longshadow:driver:${driverId}`;
  const counted = async (): Promise<unknown> => (await redis.pubsub('NUMSUB', channel))[1];
  await poll(counted, (now) => now === count, 5_000);
}

test('a request reaches its driver and no other, until that listens no more', async () => {
  const [one, two] = [await listening('one'), await listening('two')];
  const request = { kind: 'yield', sessionId: newId() } as const;
  const other = { kind: 'evict', sessionId: newId() } as const;
  assert.equal(await store.driverRequests.send('one', request), true);
  assert.equal(await store.driverRequests.send('two', other), true);
  await poll(
    () => one.requests.length + two.requests.length,
    (count) => count === 2,
    5_000,
  );
  assert.deepEqual([one.requests, two.requests], [[request], [other]]);
  one.stop();
  one.stop();
  await subscribers('one', 0);
  assert.equal(await store.driverRequests.send('one', request), false);
  assert.equal(await store.driverRequests.send('never', request), false);
  assert.equal(one.requests.length, 1);
  two.stop();
});

test('two listeners of one driver both hear; one that stops does not silence the other', async () => {
  const [first, second] = [await listening('pair'), await listening('pair')];
  first.stop();
  const request = { kind: 'evict', sessionId: newId() } as const;
  assert.equal(await store.driverRequests.send('pair', request), true);
  await poll(
    () => second.requests.length,
    (count) => count === 1,
    5_000,
  );
  assert.equal(first.requests.length, 0);
  second.stop();
});

test('a request of another form is dropped, and the next one is heard', async () => {
  const { requests, stop } = await listening('strict');
  const request = { kind: 'yield', sessionId: newId() } as const;
  const wrong = ['', 'null', '{}', '{"kind":"yield","sessionId":"../x"}'];
  for (const payload of [...wrong, JSON.stringify({ ...request, kind: 'shutdown' })]) {
    assert.equal(await redis.publish('longshadow:driver:strict', payload), 1);
  }
  await store.driverRequests.send('strict', request);
  await poll(
    () => requests.length,
    (count) => count > 0,
    5_000,
  );
  assert.deepEqual(requests, [request]);
  stop();
});

test('listeners are told when they hear again, so that they look for what they missed', async () => {
  const limits = { commandTimeoutMs: 3_000, openTimeoutMs: 5_000 };
  const connection = await openConnection(server.url, log, limits);
  let subscribed = 0;
  const close = makeSubscriptions(connection, log).listen('longshadow:news', {
    onMessage: () => undefined,
    onSubscribed: () => (subscribed += 1),
  });
  const times = async (count: number): Promise<unknown> =>
    poll(
      () => subscribed,
      (now) => now === count,
      5_000,
    );
  await times(1);
  await redis.call('CLIENT', 'KILL', 'TYPE', 'pubsub');
  await times(2);
  close();
  connection.disconnect();
});

test('what is no name is sent nowhere', async () => {
  const request = { kind: 'yield', sessionId: newId() } as const;
  await assert.rejects(store.driverRequests.send('a*', request), refused);
  await assert.rejects(store.driverRequests.send('a', { ...request, sessionId: 'b' }), refused);
  assert.throws(() => store.driverRequests.listen('a b', () => undefined), refused);
});

test('a listener hears again after its connection broke and after a restart of Redis', async () => {
  const first = await startRedis();
  const folder = dirname(first.url.replace('unix://', ''));
  const router = await openSessionStore(first.url, log);
  const requests: DriverRequest[] = [];
  const stop = router.driverRequests.listen('router-1', (request) => requests.push(request));
  const request = { kind: 'yield', sessionId: newId() } as const;
  const delivered = async (): Promise<void> => {
    const before = requests.length;
    await poll(
      async () => router.driverRequests.send('router-1', request),
      (received) => received,
      8_000,
    );
    await poll(
      () => requests.length,
      (count) => count > before,
      5_000,
    );
  };
  let second: TestRedis | null = null;
  try {
    await delivered();
    const admin = new Redis(redisOptions(first.url));
    await admin.call('CLIENT', 'KILL', 'TYPE', 'pubsub');
    admin.disconnect();
    await delivered();
    await first.stop();
    const stopLater = router.driverRequests.listen('router-2', (heard) => requests.push(heard));
    second = await startRedis(folder);
    await delivered();
    await poll(
      async () => router.driverRequests.send('router-2', request),
      (received) => received,
      8_000,
    );
    stopLater();
  } finally {
    stop();
    await router.close();
    await second?.stop();
  }
});
