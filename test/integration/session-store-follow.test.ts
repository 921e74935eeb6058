import assert from '../support/assert.js';
import { randomBytes } from 'node:crypto';
import { after, before, test } from 'node:test';
import { Redis } from 'ioredis';
import type { FleetMember } from '../../services/domain/fleet.js';
import type { SequencedEvent, SessionEvent } from '../../services/domain/session-event.js';
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

async function newSession(): Promise<string> {
  const sessionId = randomBytes(16).toString('hex');
  await store.records.create(newRecord(sessionId), 'router-1');
  return sessionId;
}

function token(index: number): SessionEvent {
  return { type: 'token', index, tokenId: index, text: String(index), logprob: -1, rank: 1 };
}

/** Follows until `count` events are there, for at most 20 s. */
async function collect(
  id: string,
  afterSequence: number,
  count: number,
): Promise<SequencedEvent[]> {
  const events: SequencedEvent[] = [];
  const signal = AbortSignal.timeout(20_000);
  for await (const event of store.events.follow(id, afterSequence, signal)) {
    events.push(event);
    if (events.length === count) break;
  }
  return events;
}

const sequencesOf = (events: SequencedEvent[]): number[] => events.map(({ sequence }) => sequence);
const oneTo = (count: number): number[] => Array.from({ length: count }, (_, i) => i + 1);

test('follow gives what is there and then what comes, once and in order', async () => {
  const id = await newSession();
  for (let i = 0; i < 600; i += 1) await store.events.append(id, 1, token(i));
  const following = collect(id, 0, 700);
  for (let i = 600; i < 700; i += 1) await store.events.append(id, 1, token(i));
  const events = await following;
  assert.deepEqual(sequencesOf(events), oneTo(700));
  assert.deepEqual(
    events.map(({ event }) => event),
    oneTo(700).map((sequence) => token(sequence - 1)),
  );
});

test('a new event arrives by wake-up, well before the poll', async () => {
  const id = await newSession();
  await store.events.append(id, 1, token(0));
  const aborter = new AbortController();
  const follower = store.events.follow(id, 0, aborter.signal)[Symbol.asyncIterator]();
  await follower.next();
  let slowest = 0;
  for (let i = 1; i <= 20; i += 1) {
    const waiting = follower.next();
    const startedMs = performance.now();
    await store.events.append(id, 1, token(i));
    await waiting;
    slowest = Math.max(slowest, performance.now() - startedMs);
  }
  aborter.abort();
  assert.ok(slowest < 500, `slowest of 20: ${slowest.toFixed(0)} ms; the poll alone takes 1 s`);
});

test('an event whose wake-up was lost arrives by the poll', async () => {
  const id = await newSession();
  const following = collect(id, 0, 1);
  await new Promise((resolve) => setTimeout(resolve, 100));
  const json = JSON.stringify(token(0));
  await redis.hset(`longshadow:session:${id}:stream`, 'sequence', 1);
  await redis.xadd(`longshadow:session:${id}:events`, '1-0', 'e', json); // no publish
  assert.deepEqual(sequencesOf(await following), [1]);
});

test('follow starts after the given sequence', async () => {
  const id = await newSession();
  for (let i = 0; i < 10; i += 1) await store.events.append(id, 1, token(i));
  assert.deepEqual(sequencesOf(await collect(id, 7, 3)), [8, 9, 10]);
});

/** Waits for the next event for at most 5 s; null when the stream just ends. */
async function nextSequence(id: string, afterSequence: number): Promise<number | null> {
  const signal = AbortSignal.timeout(5_000);
  for await (const { sequence } of store.events.follow(id, afterSequence, signal)) return sequence;
  return null;
}

const lost = { name: 'ServingError', code: 'SESSION_LOST' };

test('a follower of a session without a record rejects at once', async () => {
  const startedMs = performance.now();
  await assert.rejects(nextSequence(randomBytes(16).toString('hex'), 0), lost);
  assert.ok(performance.now() - startedMs < 1_000);
});

test('a follower waits for the first event of a session that has a record', async () => {
  const id = await newSession();
  const waiting = nextSequence(id, 0);
  await new Promise((resolve) => setTimeout(resolve, 1_300)); // it has looked twice
  await store.events.append(id, 1, token(0));
  assert.equal(await waiting, 1);
});

test('a waiting follower rejects within two seconds when its session is gone', async () => {
  const [early, late] = [await newSession(), await newSession()];
  await store.events.append(late, 1, token(0));
  const waiting = [nextSequence(early, 0), nextSequence(late, 1)];
  const rejections = Promise.all(waiting.map(async (next) => assert.rejects(next, lost)));
  await new Promise((resolve) => setTimeout(resolve, 100));
  const keys = [early, late].flatMap((id) =>
    ['', ':lease', ':events', ':stream'].map((part) => `longshadow:session:${id}${part}`),
  );
  await redis.del(keys);
  const startedMs = performance.now();
  await rejections;
  assert.ok(performance.now() - startedMs < 2_000);
});

test('a follower rejects when the stream has gone back behind what it read', async () => {
  const id = await newSession();
  for (let i = 0; i < 3; i += 1) await store.events.append(id, 1, token(i));
  const rejected = assert.rejects(nextSequence(id, 3), lost);
  const key = `longshadow:session:${id}`;
  await redis.multi().xdel(`${key}:events`, '3-0').hset(`${key}:stream`, 'sequence', 2).exec();
  await rejected;
});

test('who follows an ended session reads its events to the end', async () => {
  const id = await newSession();
  await store.events.append(id, 1, token(0));
  const record = await store.records.load(id);
  assert.ok(record);
  await store.records.compareAndSet(record, { ...record, state: 'failed' }, 'router-1');
  assert.equal(await nextSequence(id, 0), 1);
  const closing: SessionEvent = { type: 'error', code: 'CANCELLED', message: '', details: {} };
  const waiting = nextSequence(id, 1);
  await store.events.append(id, 1, closing);
  assert.equal(await waiting, 2);
});

test('an abort ends a waiting follower at once and frees its subscription', async () => {
  const id = await newSession();
  const aborter = new AbortController();
  const follower = store.events.follow(id, 0, aborter.signal)[Symbol.asyncIterator]();
  const waiting = follower.next();
  await new Promise((resolve) => setTimeout(resolve, 50));
  const channel = `longshadow:events:${id}`;
  assert.deepEqual(await redis.pubsub('NUMSUB', channel), [channel, 1]);
  const startedMs = performance.now();
  aborter.abort();
  assert.equal((await waiting).done, true);
  assert.ok(performance.now() - startedMs < 200);
  await redis.ping();
  await new Promise((resolve) => setTimeout(resolve, 50));
  assert.deepEqual(await redis.pubsub('NUMSUB', channel), [channel, 0]);
});

test('two followers of one session get everything; one that leaves takes nothing along', async () => {
  const id = await newSession();
  const both = [collect(id, 0, 5), collect(id, 0, 10)];
  for (let i = 0; i < 10; i += 1) {
    await new Promise((resolve) => setTimeout(resolve, 5));
    await store.events.append(id, 1, token(i));
  }
  const [five = [], ten = []] = await Promise.all(both);
  assert.deepEqual(sequencesOf(five), oneTo(5));
  assert.deepEqual(sequencesOf(ten), oneTo(10));
});

test('broken connections lose no event, double none, and stop no follower', async () => {
  const id = await newSession();
  const following = collect(id, 0, 200);
  const appends: Promise<unknown>[] = [];
  for (let i = 0; i < 200; i += 1) {
    appends.push(store.events.append(id, 1, token(i)));
    if (i % 40 === 20) {
      await redis.call('CLIENT', 'KILL', 'TYPE', 'pubsub');
      await redis.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
    }
  }
  assert.deepEqual(await Promise.all(appends), oneTo(200));
  assert.deepEqual(sequencesOf(await following), oneTo(200));
});

function member(memberId: string): FleetMember {
  return {
    memberId,
    role: 'worker',
    address: '127.0.0.1:7001',
    model: 'needle',
    modelFingerprint: 'a'.repeat(32),
    dtype: 'bf16',
    device: 'cpu',
    instructionSet: 'avx512_bf16',
    stage: 0,
    stages: 1,
    layerBegin: 0,
    layerEnd: 6,
    vocabSize: 4096,
    maxPositions: 2 ** 20,
    eosTokenIds: [2],
    kvBytesPerToken: 12_288,
    patternsSha256: 'e'.repeat(64),
    storeId: 'store',
    storeCapacityBytes: 2 ** 34,
    storeFreeBytes: 2 ** 33,
    activeSessions: 0,
    maxSessions: 64,
    privateCapacityBytes: 2 ** 32,
    draining: false,
    startedUnixMs: 1_764_000_000_000,
  };
}

test('members are those whose heartbeat lives', async () => {
  await store.fleet.announce(member('worker-b'));
  await store.fleet.announce(member('worker-a'));
  await store.fleet.announce({ ...member('worker-c'), draining: true });
  const left = await redis.pttl('longshadow:fleet:worker-a');
  assert.ok(left > 5_000 && left <= 6_000);
  assert.deepEqual(await store.fleet.members(), [
    member('worker-a'),
    member('worker-b'),
    { ...member('worker-c'), draining: true },
  ]);
  await store.fleet.withdraw('worker-c');
  await redis.pexpire('longshadow:fleet:worker-b', 0);
  assert.deepEqual(await store.fleet.members(), [member('worker-a')]);
  assert.deepEqual(await redis.smembers('longshadow:fleet'), ['worker-a'], 'pruned');
});

test('a member of another form does not hide the others', async () => {
  await store.fleet.announce(member('worker-a'));
  await redis.set('longshadow:fleet:worker-z', '{"memberId":"worker-z"}', 'PX', 6_000);
  await redis.sadd('longshadow:fleet', 'worker-z');
  assert.deepEqual(await store.fleet.members(), [member('worker-a')]);
  await assert.rejects(store.fleet.announce(member('a:b')), { code: 'BAD_REQUEST' });
});
