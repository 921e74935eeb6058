import assert from '../../../support/assert.js';
import { randomBytes } from 'node:crypto';
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';
import type { FleetMember } from '../../../../services/domain/fleet.js';
import { ServingError } from '../../../../services/domain/serving-error.js';
import type { SessionRecord } from '../../../../services/domain/session-record.js';
import { makeLog } from '../../../../services/platform/log.js';
import {
  openSessionStore,
  type OpenSessionStore,
} from '../../../../services/platform/session-store/open-session-store.js';
import { reserveEvicting } from '../../../../services/router/admission/evict-kept.js';
import {
  type PlacedSession,
  reserveLane,
} from '../../../../services/router/admission/reserve-lane.js';
import { reserveTurn } from '../../../../services/router/admission/reserve-turn.js';
import { describe as describeModel } from '../../../../services/router/admission/served-model.js';
import { poll } from '../../../support/poll.js';
import { startRedis, type TestRedis } from '../../../support/redis-server.js';
import { newRecord } from '../../../support/session-record.js';
import { fakeMember } from '../drive/fake-members.js';

/** Tokens of the sessions here are whole pages: 512 tokens of 2 bytes. */
const PAGE_BYTES = 1_024;
const CAPACITY_BYTES = 10 * PAGE_BYTES;

let redis: TestRedis;
let store: OpenSessionStore;
let storeId: string;
/** Kept sessions that were asked to go and did, in that order. */
let evicted: string[];
let stopListening: () => void;
const ending = new Set<string>();

before(async () => {
  redis = await startRedis();
  store = await openSessionStore(redis.url, makeLog('test', 'silent'));
});
after(async () => {
  await store.close();
  await redis.stop();
});
beforeEach(async () => {
  storeId = `store-${newId()}`;
  evicted = [];
  const driverId = driverOf(storeId);
  // A driver as far as eviction sees one: it ends a session that is still kept.
  stopListening = store.driverRequests.listen(driverId, ({ kind, sessionId }) => {
    assert.equal(kind, 'evict');
    void endKept(sessionId, driverId);
  });
  await poll(
    async () => store.driverRequests.send(driverId, { kind: 'evict', sessionId: newId() }),
    (isHeard) => isHeard,
    5_000,
  );
});
afterEach(() => {
  stopListening();
});

function newId(): string {
  return randomBytes(16).toString('hex');
}

function driverOf(id: string): string {
  return `router-${id}`;
}

async function endKept(sessionId: string, driverId: string): Promise<void> {
  if (ending.has(sessionId)) return; // asked twice
  ending.add(sessionId);
  const record = await store.records.load(sessionId);
  if (record?.state !== 'kept') return;
  await store.records.compareAndSet(record, { ...record, state: 'finished' }, driverId);
  await store.reservations.release(storeId, sessionId);
  await store.kept.remove(storeId, sessionId);
  evicted.push(sessionId);
}

/** A session that holds `pages` in the store and was used at `usedUnixMs`. */
async function addSession(
  pages: number,
  usedUnixMs: number,
  change: Partial<SessionRecord> = {},
  driverId = driverOf(storeId),
): Promise<string> {
  const sessionId = newId();
  const reservation = { storeId, bytes: pages * PAGE_BYTES, tokens: pages * 512 };
  const record = { ...newRecord(sessionId), state: 'kept' as const, reservation, ...change };
  await store.records.create(record, driverId);
  assert.ok(
    await store.reservations.reserve(storeId, sessionId, reservation.bytes, CAPACITY_BYTES),
  );
  await store.kept.touch(storeId, sessionId, usedUnixMs);
  return sessionId;
}

async function reserve(pages: number, spared: string[] = []): Promise<boolean> {
  return reserveEvicting(
    {
      ...{ storeId, sessionId: newId(), heldBytes: 0 },
      bytes: pages * PAGE_BYTES,
      capacityBytes: CAPACITY_BYTES,
    },
    store,
    spared,
  );
}

async function reservedPages(): Promise<number> {
  return (await store.reservations.reservedBytes(storeId)) / PAGE_BYTES;
}

describe('room in a full store', () => {
  test('is made by the kept sessions that were used longest ago, and no more than it takes', async () => {
    const newest = await addSession(2, 3_000);
    const oldest = await addSession(3, 1_000);
    const middle = await addSession(2, 2_000);
    await addSession(3, 500, { state: 'decoding' });
    assert.ok(await reserve(4));
    assert.deepEqual([...evicted].sort(), [oldest, middle].sort());
    assert.equal(await reservedPages(), 2 + 3 + 4);
    assert.equal((await store.records.load(newest))?.state, 'kept');
  });

  test('takes nobody’s place where there is some', async () => {
    await addSession(5, 1_000);
    assert.ok(await reserve(5));
    assert.deepEqual(evicted, []);
  });

  test('is not made where all kept sessions together are too small', async () => {
    await addSession(2, 1_000);
    await addSession(8, 2_000, { state: 'prefilling' });
    assert.equal(await reserve(3), false);
    assert.deepEqual(evicted, []);
    assert.equal(await reservedPages(), 10);
  });

  test('is not made by sessions that must stay', async () => {
    const spared = await addSession(5, 1_000);
    const other = await addSession(5, 2_000);
    assert.ok(await reserve(5, [spared]));
    assert.deepEqual(evicted, [other]);
  });

  test('is made by the next one if the oldest gets a turn at that moment, or has no driver', async () => {
    const busy = await addSession(5, 1_000, {}, 'router-that-does-nothing');
    const stopBusy = store.driverRequests.listen('router-that-does-nothing', () => undefined);
    const other = await addSession(5, 2_000);
    assert.ok(await reserve(5));
    assert.deepEqual(evicted, [other]);
    assert.equal((await store.records.load(busy))?.state, 'kept');
    stopBusy();
  });

  test('is shared by two sessions that ask at once', async () => {
    await addSession(5, 1_000);
    await addSession(5, 2_000);
    assert.deepEqual(await Promise.all([reserve(5), reserve(5)]), [true, true]);
    assert.equal(evicted.length, 2);
    assert.equal(await reservedPages(), 10);
  });

  test('is made for a kept session’s next turn, but not by itself', async () => {
    const grows = await addSession(4, 1_000);
    const other = await addSession(6, 2_000);
    const record = await store.records.load(grows);
    assert.ok(record !== null);
    const worker = member('worker');
    assert.deepEqual(await reserveTurn(record, worker, 7 * 512, store), {
      ...{ storeId, bytes: 7 * PAGE_BYTES, tokens: 7 * 512 },
    });
    assert.deepEqual(evicted, [other]);
    assert.equal(await reservedPages(), 7);
  });
});

describe('segments that two sessions share', () => {
  /** Two sessions in a turn that reserve 5 pages each and share 3 of them; the store holds 7. */
  async function addTwins(): Promise<[string, string]> {
    const maker = 'c'.repeat(64);
    const segment = (beginPage: number, endPage: number) => ({
      ...{ stage: 0, beginToken: beginPage * 512, endToken: endPage * 512 },
      bytes: (endPage - beginPage) * PAGE_BYTES,
    });
    const segments = [segment(0, 2), segment(2, 3), segment(3, 4)];
    const origins = [{ beginToken: 0, endToken: 4 * 512, fingerprint: maker }];
    const first = { state: 'decoding', segments, fingerprint: maker } as const;
    const twin = { state: 'decoding', segments, origins } as const;
    return [await addSession(5, 1_000, first), await addSession(5, 2_000, twin)];
  }

  test('leave the room that their second links do not take, and no more', async () => {
    await addTwins();
    assert.equal(await reserve(4), false);
    assert.ok(await reserve(2));
    assert.ok(await reserve(1));
    assert.equal(await reserve(1), false);
    assert.deepEqual(evicted, []);
  });

  test('are paid for by the second once the first is gone', async () => {
    const [first] = await addTwins();
    assert.ok(await reserve(3));
    const record = await store.records.load(first);
    assert.ok(record !== null);
    await store.records.compareAndSet(record, { ...record, state: 'finished' }, driverOf(storeId));
    await store.reservations.release(storeId, first);
    assert.equal(await reserve(3), false);
    assert.ok(await reserve(2));
    assert.equal(await reserve(1), false);
  });

  test('are no room that evicting one of their holders makes', async () => {
    const [, twin] = await addTwins();
    const record = await store.records.load(twin);
    assert.ok(record !== null);
    await store.records.compareAndSet(record, { ...record, state: 'kept' }, driverOf(storeId));
    assert.ok(await reserve(3));
    assert.equal(await reserve(3), false);
    assert.deepEqual(evicted, []);
    assert.ok(await reserve(2));
    assert.deepEqual(evicted, [twin]);
    assert.equal(await reservedPages(), 10);
  });

  test('are not found twice by sessions that ask at once', async () => {
    await addTwins();
    const taken = await Promise.all([reserve(2), reserve(2), reserve(2)]);
    assert.ok(taken.filter((isTaken) => isTaken).length <= 1, taken.join());
    assert.ok((await reservedPages()) <= 13);
  });
});

function member(role: 'worker' | 'decode', change: Partial<FleetMember> = {}): FleetMember {
  const kvBytesPerToken = PAGE_BYTES / 512;
  return fakeMember(role, {
    ...{ storeId, storeCapacityBytes: CAPACITY_BYTES, kvBytesPerToken },
    ...change,
  });
}

async function place(
  pages: number,
  members: readonly FleetMember[],
  depths: Readonly<Record<string, number>> = {},
): Promise<PlacedSession> {
  return reserveLane(
    {
      ...{ sessionId: newId(), model: describeModel(member('worker')), tokens: pages * 512 },
      ...{ members, placedSessions: new Map(), policy: newRecord(newId()).policy },
    },
    {
      store,
      queues: { depth: async (workerId) => Promise.resolve(depths[workerId] ?? 0) },
      maxQueuedJobs: 5,
    },
  );
}

function refusal(code: string) {
  return (error: unknown): boolean =>
    error instanceof ServingError &&
    error.code === code &&
    (error.details.retryAfterMs ?? 0) > 0 &&
    error.details.quota !== undefined;
}

describe('a new session', () => {
  test('goes to a store that has room before kept sessions go anywhere', async () => {
    const otherStore = `store-${newId()}`;
    const members = [
      ...[member('worker'), member('decode')],
      member('worker', { memberId: 'worker-2', storeId: otherStore, storeCapacityBytes: 5_120 }),
      member('decode', { memberId: 'decode-2', storeId: otherStore }),
    ];
    await addSession(9, 1_000);
    await store.reservations.reserve(otherStore, newId(), 0, 1);
    const { lane } = await place(2, members);
    assert.equal(lane.worker.memberId, 'worker-2');
    assert.deepEqual(evicted, []);
  });

  test('that no store has room for is refused, with when to ask again and the limit', async () => {
    await addSession(9, 1_000, { state: 'decoding' });
    await assert.rejects(
      place(2, [member('worker'), member('decode')]),
      refusal('VALUE_STORE_FULL'),
    );
  });

  test('takes the place at a full decode of the kept session that was used longest ago', async () => {
    await addSession(1, 500, { decodeId: 'decode-1', state: 'decoding' });
    await addSession(1, 1_000, { decodeId: 'decode-elsewhere' });
    const oldest = await addSession(1, 2_000, { decodeId: 'decode-1' });
    await addSession(1, 3_000, { decodeId: 'decode-1' });
    const decode = member('decode', { maxSessions: 3, activeSessions: 3 });
    const { lane } = await place(2, [member('worker'), decode]);
    assert.equal(lane.decode.memberId, 'decode-1');
    assert.deepEqual(evicted, [oldest]);
  });

  test('is refused where full decodes keep nobody', async () => {
    await addSession(1, 500, { decodeId: 'decode-1', state: 'decoding' });
    const decode = member('decode', { maxSessions: 1, activeSessions: 1 });
    await assert.rejects(place(2, [member('worker'), decode]), refusal('TOO_MANY_SESSIONS'));
  });

  test('passes over a worker whose queue is long', async () => {
    const members = [
      ...[member('worker'), member('decode')],
      member('worker', { memberId: 'worker-2', activeSessions: 4 }),
    ];
    const { lane } = await place(1, members, { 'worker-1': 5, 'worker-2': 4 });
    assert.equal(lane.worker.memberId, 'worker-2');
  });

  test('is refused where all queues are long, and evicts nobody for that', async () => {
    await addSession(10, 1_000);
    await assert.rejects(
      place(1, [member('worker'), member('decode')], { 'worker-1': 5 }),
      refusal('QUEUE_FULL'),
    );
    assert.deepEqual(evicted, []);
  });
});
