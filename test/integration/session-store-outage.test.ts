import assert from '../support/assert.js';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { ServingError } from '../../services/domain/serving-error.js';
import type { SessionEvent } from '../../services/domain/session-event.js';
import { makeLog } from '../../services/platform/log.js';
import { openSessionStore } from '../../services/platform/session-store/open-session-store.js';
import { startLossyProxy } from '../support/lossy-proxy.js';
import { startRedis } from '../support/redis-server.js';
import { newRecord } from '../support/session-record.js';

const log = makeLog('test', 'silent');
const newId = (): string => randomBytes(16).toString('hex');
const queued: SessionEvent = { type: 'queued', workerId: 'w', jobsAhead: 1 };
const unavailable = { name: 'ServingError', code: 'REDIS_UNAVAILABLE' };

test('opening without a Redis fails in bounded time and says what to do', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'ls-none-'));
  const limits = { commandTimeoutMs: 200, openTimeoutMs: 300 };
  const startedMs = performance.now();
  await assert.rejects(openSessionStore(`unix://${folder}/r.sock`, log, limits), {
    ...unavailable,
    message: /ENOENT.*REDIS_URL/,
  });
  assert.ok(performance.now() - startedMs < 2_000);
  rmSync(folder, { recursive: true });
});

test('a Redis that stands still is REDIS_UNAVAILABLE; when it goes on, so do we', async () => {
  const server = await startRedis();
  const limits = { commandTimeoutMs: 300, openTimeoutMs: 5_000 };
  const store = await openSessionStore(server.url, log, limits);
  try {
    process.kill(server.pid, 'SIGSTOP');
    const id = randomBytes(16).toString('hex');
    const calls = [
      store.records.load(id),
      store.records.takeLease(id, 'router-1'),
      store.events.append(id, 1, { type: 'queued', workerId: 'w', jobsAhead: 1 }),
      store.tokenIds.put(id, 0, Uint32Array.of(1)),
      store.fleet.members(),
      store.reservations.reservedBytes('store'),
      store.records.undrivenSessionIds(),
      store.events.lastSequence(id),
      store.clients.attach(id, 'router-1'),
      store.driverRequests.send('router-1', { kind: 'evict', sessionId: id }),
      store.kept.leastRecentlyUsed('store', 1),
      store.prefixes.find('store', 'a'.repeat(64)),
      store.fairShares.nextPriority('worker-1', '', 1, false),
    ];
    const results = await Promise.allSettled(calls);
    for (const result of results) {
      assert.ok(result.status === 'rejected' && result.reason instanceof ServingError);
      assert.equal(result.reason.code, 'REDIS_UNAVAILABLE');
    }
    process.kill(server.pid, 'SIGCONT');
    assert.equal(await store.records.load(randomBytes(16).toString('hex')), null);
  } finally {
    process.kill(server.pid, 'SIGCONT');
    await store.close();
    await server.stop();
  }
});

test('after an empty restart of Redis the same store works; followers of what is lost reject', async () => {
  const first = await startRedis();
  const folder = dirname(first.url.replace('unix://', ''));
  const limits = { commandTimeoutMs: 5_000, openTimeoutMs: 5_000 };
  const store = await openSessionStore(first.url, log, limits);
  const [silent, lost] = [newId(), newId()];
  const aborter = new AbortController();
  for (const id of [silent, lost]) await store.records.create(newRecord(id), 'router-1');
  await store.events.append(lost, 1, queued);
  const follow = (id: string) => store.events.follow(id, 0, aborter.signal)[Symbol.asyncIterator]();
  const follower = follow(lost);
  await follower.next();
  const told = { code: 'SESSION_LOST', message: /again/ };
  const rejections = Promise.all([
    assert.rejects(follower.next(), told),
    assert.rejects(follow(silent).next(), told, 'also one that has read nothing'),
  ]);
  await first.stop();
  const second = await startRedis(folder);
  try {
    assert.equal(await store.records.takeLease(lost, 'router-1'), 'gone');
    await rejections;
    const id = newId();
    await store.records.create(newRecord(id), 'router-1');
    const next = follow(id).next();
    assert.equal(await store.events.append(id, 1, queued), 1);
    assert.deepEqual((await next).value, { sequence: 1, event: queued });
  } finally {
    aborter.abort();
    await store.close();
    await second.stop();
  }
});

test('a command whose reply was lost takes effect once and answers as if nothing had been', async () => {
  const server = await startRedis();
  const socket = server.url.replace('unix://', '');
  const proxy = await startLossyProxy(`${socket}.proxy`, socket);
  const store = await openSessionStore(`unix://${socket}.proxy`, log);
  const id = newId();
  try {
    const record = newRecord(id);
    let lost = proxy.loseNextReply();
    await store.records.create(record, 'router-1');
    await lost;
    const event: SessionEvent = {
      type: 'token',
      index: 0,
      tokenId: 9,
      text: '',
      logprob: -1,
      rank: 1,
    };
    lost = proxy.loseNextReply();
    assert.equal(await store.events.append(id, 1, event), 1);
    await lost;
    lost = proxy.loseNextReply();
    const closing: SessionEvent = { type: 'error', code: 'CANCELLED', message: '', details: {} };
    assert.equal(await store.events.append(id, 1, closing), 2);
    await lost;
    assert.equal((await store.events.read(id, 0, 10)).length, 2);
    lost = proxy.loseNextReply();
    assert.equal(await store.reservations.reserve('store', id, 10, 10), true);
    await lost;
    lost = proxy.loseNextReply();
    const written = await store.records.compareAndSet(
      record,
      { ...record, nextToken: 512 },
      'router-1',
    );
    assert.equal(written?.revision, 2);
    await lost;
    assert.equal((await store.records.load(id))?.nextToken, 512);
    lost = proxy.loseNextReply();
    assert.equal(await store.records.takeLease(id, 'router-1'), 'held');
    await lost;
    lost = proxy.loseNextReply();
    await store.tokenIds.put(id, 0, Uint32Array.of(1, 2));
    await lost;
    assert.deepEqual(await store.tokenIds.get(id, 0, 2), Uint32Array.of(1, 2));
  } finally {
    await store.close();
    await proxy.close();
    await server.stop();
  }
});

test('a tenant is charged once for a job whose reply was lost, also when several were under way', async () => {
  const server = await startRedis();
  const socket = server.url.replace('unix://', '');
  const proxy = await startLossyProxy(`${socket}.proxy`, socket);
  const store = await openSessionStore(`unix://${socket}.proxy`, log);
  const next = async (idle = false) => store.fairShares.nextPriority('w', 'a', 2_048, idle);
  try {
    assert.equal(await next(true), 1);
    let lost = proxy.loseNextReply();
    assert.equal(await next(), 2);
    await lost;
    lost = proxy.loseNextReply();
    assert.deepEqual(await Promise.all([next(), next(), next()]), [3, 4, 5]);
    await lost;
    assert.equal(await next(), 6);
    lost = proxy.loseNextReply();
    await store.fairShares.started('w', 4);
    await lost;
    assert.equal(await store.fairShares.nextPriority('w', 'b', 1, false), 4);
    lost = proxy.loseNextReply();
    assert.equal(await next(true), 1, 'and a beginning happens once');
    await lost;
    assert.equal(await next(), 2);
  } finally {
    await store.close();
    await proxy.close();
    await server.stop();
  }
});

test('clients, kept sessions and offers stand as if the reply that was lost had come', async () => {
  const server = await startRedis();
  const socket = server.url.replace('unix://', '');
  const proxy = await startLossyProxy(`${socket}.proxy`, socket);
  const store = await openSessionStore(`unix://${socket}.proxy`, log);
  const id = newId();
  const chain = 'c'.repeat(64);
  const donor = { sessionId: id, epoch: 1, beginToken: 0, endToken: 8, fingerprint: 'f' };
  const losing = async <T>(call: () => Promise<T>): Promise<T> => {
    const lost = proxy.loseNextReply();
    const answer = await call();
    await lost;
    return answer;
  };
  try {
    await store.records.create(newRecord(id), 'router-1');
    await losing(async () => store.clients.attach(id, 'router-1'));
    assert.equal(await losing(async () => store.clients.isAttached(id)), true);
    await losing(async () => store.clients.detach(id, 'router-1'));
    assert.equal(await store.clients.isAttached(id), false);
    await losing(async () => store.kept.touch('store', id, 7));
    assert.deepEqual(await losing(async () => store.kept.leastRecentlyUsed('store', 1)), [id]);
    await losing(async () => store.kept.remove('store', id));
    assert.deepEqual(await store.kept.leastRecentlyUsed('store', 1), []);
    await losing(async () => store.prefixes.publish('store', [{ chain, donor }]));
    assert.deepEqual(await losing(async () => store.prefixes.find('store', chain)), donor);
    await losing(async () => store.prefixes.withdraw('store', id, [chain]));
    assert.equal(await store.prefixes.find('store', chain), null);
    assert.deepEqual(await losing(async () => store.records.undrivenSessionIds()), []);
  } finally {
    await store.close();
    await proxy.close();
    await server.stop();
  }
});
