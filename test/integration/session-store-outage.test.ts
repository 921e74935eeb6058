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
  } finally {
    await store.close();
    await proxy.close();
    await server.stop();
  }
});
