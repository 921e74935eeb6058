import assert from '../../../support/assert.js';
import { status } from '@grpc/grpc-js';
import { Redis } from 'ioredis';
import { after, before, test } from 'node:test';
import type { SessionRecord } from '../../../../services/domain/session-record.js';
import { ServingError } from '../../../../services/domain/serving-error.js';
import { redisOptions } from '../../../../services/platform/redis-url.js';
import { fromStatus } from '../../../../services/platform/rpc/status.js';
import { Relays } from '../../../../services/router/rpc/relays.js';
import { log } from '../../../support/host-router.js';
import { poll } from '../../../support/poll.js';
import {
  ACCEPTED,
  finished,
  resume,
  ROUTER_ID,
  startRelayWorld,
  token,
  type RelayWorld,
  type ResumeCall,
} from './relay-world.js';

let world: RelayWorld;
before(async () => {
  world = await startRelayWorld();
});
after(async () => {
  await world.stop();
});

const sequences = (call: ResumeCall): number[] =>
  call.responses.map(({ sequence }) => Number(sequence));

async function sees(call: ResumeCall, count: number): Promise<void> {
  await poll(
    () => call.responses.length,
    (length) => length >= count,
    5_000,
    5,
  );
}

async function isAttached(sessionId: string): Promise<boolean> {
  return world.store.clients.isAttached(sessionId);
}

test('every event after the place comes once and in order, those of the past and those to come', async () => {
  const sessionId = await world.create({ state: 'decoding' });
  await world.append(sessionId, ACCEPTED, token(0), token(1));
  const call = resume(world.client, { sessionId, afterSequence: 2 });
  await sees(call, 1);
  await world.append(sessionId, token(2), finished(3, null));
  assert.equal(await call.ended, null);
  assert.deepEqual(sequences(call), [3, 4, 5]);
  assert.deepEqual(
    call.responses.map(({ token: seen }) => seen?.index),
    [1, 2, undefined],
  );
  assert.equal(call.responses[0]?.sessionId, sessionId);
  assert.equal(call.responses.at(-1)?.finished?.usage?.completionTokens, '3');
});

test('an interruption is told with its cause', async () => {
  const sessionId = await world.create();
  const lost = { type: 'interrupted', code: 'WORKER_LOST', message: 'the worker is gone' } as const;
  await world.append(sessionId, ACCEPTED, lost, finished(0, null));
  const call = resume(world.client, { sessionId });
  assert.equal(await call.ended, null);
  const { code, message } = lost;
  assert.deepEqual(call.responses[1]?.interrupted, { code, message });
});

test('a turn that another turn follows does not end the call', async () => {
  const sessionId = await world.create({ state: 'decoding' });
  await world.append(sessionId, ACCEPTED, token(0), finished(1, Date.now() + 60_000));
  const turn = { ...(await recordOf(sessionId)).turn, number: 1, afterSequence: 3 };
  await world.change(sessionId, { turn });
  await world.store.events.beginTurn(sessionId);
  const fromStart = resume(world.client, { sessionId });
  const fromEnd = resume(world.client, { sessionId, afterSequence: 3 });
  await sees(fromStart, 3);
  await world.append(sessionId, token(0), finished(1, null));
  assert.deepEqual(await Promise.all([fromStart.ended, fromEnd.ended]), [null, null]);
  assert.deepEqual(sequences(fromStart), [1, 2, 3, 4, 5]);
  assert.deepEqual(sequences(fromEnd), [4, 5]);
});

test('an idle session ends the call at once, whether it is kept or over', async () => {
  for (const state of ['kept', 'finished'] as const) {
    const sessionId = await world.create();
    await world.append(sessionId, ACCEPTED, token(0), finished(1, null));
    await world.change(sessionId, { state });
    const all = resume(world.client, { sessionId, afterSequence: 0 });
    const rest = resume(world.client, { sessionId, afterSequence: 3 });
    assert.deepEqual(await Promise.all([all.ended, rest.ended]), [null, null]);
    assert.deepEqual([sequences(all), sequences(rest)], [[1, 2, 3], []]);
  }
});

test('an error is relayed and then the status, also to a client that has the error', async () => {
  const sessionId = await world.create();
  const message = 'the upload is lost';
  const details = { retryAfterMs: 1_500 };
  await world.append(sessionId, ACCEPTED, { type: 'error', code: 'UPLOAD_LOST', message, details });
  for (const afterSequence of [0, 2]) {
    const call = resume(world.client, { sessionId, afterSequence });
    const error = await call.ended;
    assert.equal(error?.code, status.UNAVAILABLE);
    const refusal = fromStatus(error);
    assert.deepEqual([refusal.code, refusal.details.retryAfterMs], ['UPLOAD_LOST', 1_500]);
    assert.equal(call.responses.length, 2 - afterSequence);
  }
});

test('what cannot be resumed is refused by name', async () => {
  const sessionId = await world.create();
  await world.append(sessionId, ACCEPTED);
  const unknown = 'f'.repeat(32);
  const cases = [
    [{ sessionId: '../x' }, 'BAD_REQUEST', 'session_id'],
    [{ sessionId: unknown }, 'SESSION_NOT_FOUND', undefined],
    [{ sessionId, afterSequence: 2 }, 'BAD_REQUEST', 'after_sequence'],
    [{ sessionId, afterSequence: '18446744073709551615' }, 'BAD_REQUEST', 'after_sequence'],
  ] as const;
  for (const [request, code, field] of cases) {
    const error = await resume(world.client, request).ended;
    const refusal = error === null ? null : fromStatus(error);
    assert.equal(refusal?.code, code);
    assert.equal(refusal.details.fieldViolations?.[0]?.field, field);
  }
});

test('while it relays, the driver can know; when the last client goes, the driver is told', async () => {
  const sessionId = await world.create();
  await world.append(sessionId, ACCEPTED);
  const [first, second] = [
    resume(world.client, { sessionId }),
    resume(world.client, { sessionId }),
  ];
  await Promise.all([sees(first, 1), sees(second, 1)]);
  await poll(() => isAttached(sessionId), Boolean, 2_000, 5);
  first.cancel();
  await first.ended;
  await world.append(sessionId, token(0));
  await sees(second, 2);
  assert.equal(await isAttached(sessionId), true);
  assert.deepEqual(world.gone, []);
  second.cancel();
  await second.ended;
  await poll(
    () => world.gone.length,
    (length) => length > 0,
    2_000,
    5,
  );
  assert.deepEqual(world.gone, [`${sessionId} CANCELLED`]);
  assert.equal(await isAttached(sessionId), false);
});

test('a client that goes after the end is not missed', async () => {
  const sessionId = await world.create();
  await world.append(sessionId, ACCEPTED, finished(0, null));
  const call = resume(world.client, { sessionId });
  await sees(call, 2);
  call.cancel();
  await call.ended;
  assert.equal(await isAttached(sessionId), false);
  assert.equal(
    world.gone.some((each) => each.startsWith(sessionId)),
    false,
  );
});

test('a session that ended without a word ends the call, too', async () => {
  const sessionId = await world.create();
  await world.append(sessionId, ACCEPTED);
  const call = resume(world.client, { sessionId });
  await sees(call, 1);
  await world.change(sessionId, { state: 'failed' });
  const error = await call.ended;
  assert.equal(error === null ? null : fromStatus(error).code, 'SESSION_ENDED');
});

test('a router that stops sends its clients elsewhere and reports none of them gone', async () => {
  const other = await startRelayWorld();
  try {
    const sessionId = await other.create();
    await other.append(sessionId, ACCEPTED);
    const call = resume(other.client, { sessionId });
    await sees(call, 1);
    other.relays.stop();
    const error = await call.ended;
    assert.equal(error?.code, status.UNAVAILABLE);
    assert.equal(fromStatus(error).code, 'SHUTTING_DOWN');
    assert.deepEqual(other.gone, []);
    assert.equal(await other.store.clients.isAttached(sessionId), false);
  } finally {
    await other.stop();
  }
});

test('a session that Redis forgets ends the call with SESSION_LOST', async () => {
  const other = await startRelayWorld();
  const redis = new Redis(redisOptions(other.redis.url));
  try {
    const sessionId = await other.create();
    await other.append(sessionId, ACCEPTED);
    const call = resume(other.client, { sessionId });
    await sees(call, 1);
    await redis.flushall();
    const error = await call.ended;
    assert.equal(error?.code, status.UNAVAILABLE);
    assert.equal(fromStatus(error).code, 'SESSION_LOST');
  } finally {
    redis.disconnect();
    await other.stop();
  }
});

test('a relay is announced under the id of its router, and again while it lasts', async () => {
  const attached: string[] = [];
  const clients = {
    attach: async (sessionId: string, routerId: string): Promise<void> => {
      attached.push(`${sessionId} ${routerId}`);
      return Promise.reject(new ServingError('REDIS_UNAVAILABLE', 'away'));
    },
    detach: async (): Promise<void> => Promise.resolve(),
    isAttached: async (): Promise<boolean> => Promise.resolve(true),
  };
  const relay = new Relays(clients, ROUTER_ID, log).open('s');
  await poll(
    () => attached.length,
    (count) => count > 1,
    4_000,
    20,
  );
  assert.equal(relay.close(), true);
  assert.equal(attached[0], `s ${ROUTER_ID}`);
});

async function recordOf(sessionId: string): Promise<SessionRecord> {
  const record = await world.store.records.load(sessionId);
  if (record === null) throw new Error('no record');
  return record;
}
