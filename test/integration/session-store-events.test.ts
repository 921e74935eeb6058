import assert from '../support/assert.js';
import { randomBytes } from 'node:crypto';
import { after, before, test } from 'node:test';
import { Redis } from 'ioredis';
import type { FinishedEvent, SessionEvent } from '../../services/domain/session-event.js';
import { makeLog } from '../../services/platform/log.js';
import { redisOptions } from '../../services/platform/redis-url.js';
import {
  openSessionStore,
  type OpenSessionStore,
} from '../../services/platform/session-store/open-session-store.js';
import { sessionKeys } from '../../services/platform/session-store/keys.js';
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

function token(index: number, text = ''): SessionEvent {
  return { type: 'token', index, tokenId: index + 7, text, logprob: -0.5, rank: 1 };
}

const finished: FinishedEvent = {
  type: 'finished',
  finishReason: 'stop',
  text: '',
  report: {
    policy: {
      prefillPolicy: 'dense',
      cachePolicy: 'full',
      dtype: 'fp32',
      cutRule: 'cpu',
      sparse: null,
    },
    promptTokens: 10,
    cachedTokens: 0,
    completionTokens: 2,
    timeToFirstTokenMs: 1.5,
    prefillMs: 1,
    decodeMs: 2,
    segmentBytes: 4096,
    privateBytes: 0,
    workerIds: ['worker-1'],
    decodeId: 'decode-1',
    promptReran: false,
    sparseWork: null,
  },
  keptUntilUnixMs: null,
};
const error: SessionEvent = {
  type: 'error',
  code: 'NO_WORKER',
  message: 'no worker serves it',
  details: { retryAfterMs: 500 },
};
const interrupted: SessionEvent = { type: 'interrupted', code: 'DECODE_LOST', message: 'gone' };
const queued: SessionEvent = { type: 'queued', workerId: 'worker-1', jobsAhead: 2 };

const everyEvent: SessionEvent[] = [
  {
    type: 'accepted',
    model: 'needle',
    modelFingerprint: 'a'.repeat(32),
    policy: finished.report.policy,
    reservedBytes: 2 ** 40,
    reservedTokens: 1_000_016,
  },
  queued,
  {
    type: 'progress',
    processedTokens: 512,
    totalTokens: null,
    cachedTokens: 0,
    etaMs: null,
    promptLogprobs: [{ position: 1, tokenId: 2, logprob: -0.25, rank: 1 }],
  },
  { type: 'interrupted', code: 'WORKER_LOST', message: 'worker-1 is gone' },
  token(0, 'Grüße \u{1F600}'),
  finished,
];

test('events are read back as they were appended, with sequences 1, 2, 3', async () => {
  const id = await newSession();
  for (const [place, event] of everyEvent.entries()) {
    assert.equal(await store.events.append(id, 1, event), place + 1);
  }
  const all = await store.events.read(id, 0, 100);
  assert.deepEqual(
    all,
    everyEvent.map((event, place) => ({ sequence: place + 1, event })),
  );
  assert.deepEqual(await store.events.read(id, 2, 2), all.slice(2, 4));
  assert.deepEqual(await store.events.read(id, everyEvent.length, 10), []);
});

test('the log-probability of an impossible token survives JSON', async () => {
  const id = await newSession();
  const impossible = { ...token(0), logprob: Number.NEGATIVE_INFINITY } as SessionEvent;
  await store.events.append(id, 1, impossible);
  assert.deepEqual((await store.events.read(id, 0, 1))[0]?.event, impossible);
});

test('what carries another epoch is refused, before and after a new plan', async () => {
  const id = await newSession();
  const record = await store.records.load(id);
  assert.ok(record);
  await store.records.compareAndSet(record, { ...record, epoch: 2 }, 'router-1');
  assert.equal(await store.events.append(id, 1, token(0)), 'stale-epoch');
  assert.equal(await store.events.append(id, 3, token(0)), 'stale-epoch');
  assert.equal(await store.events.append(id, 2, token(0)), 1);
});

test('what carries another attempt of decode is refused, what names none is not', async () => {
  const id = await newSession();
  const record = await store.records.load(id);
  assert.ok(record);
  const begun = await store.records.compareAndSet(record, { ...record, attempt: 1 }, 'router-1');
  assert.ok(begun);
  const append = async (event: SessionEvent, attempt?: number) =>
    store.events.append(id, 1, event, attempt === undefined ? {} : { attempt });
  assert.equal(await append(token(0), 1), 1);
  await store.records.compareAndSet(begun, { ...begun, attempt: 2 }, 'router-1');
  for (const late of [token(1), finished, interrupted, queued]) {
    assert.equal(await append(late, 1), 'stale-epoch', late.type);
    assert.equal(await append(late, 3), 'stale-epoch', late.type);
  }
  assert.equal(await append(token(1), 2), 2, 'the new attempt goes on where the old one stopped');
  assert.equal(await append(queued), 3);
  assert.equal(await append(error), 4, 'the driver names none');
});

test('a repetition of what an older attempt had appended answers as the first time', async () => {
  const id = await newSession();
  const record = await store.records.load(id);
  assert.ok(record);
  const options = { attempt: 0, appendId: 'token-0' };
  assert.equal(await store.events.append(id, 1, token(0), options), 1);
  await store.records.compareAndSet(record, { ...record, attempt: 1 }, 'router-1');
  assert.equal(await store.events.append(id, 1, token(0), options), 1);
  assert.equal((await store.events.read(id, 0, 10)).length, 1);
});

test('an interrupted turn goes on: its tokens are counted on', async () => {
  const id = await newSession();
  await store.events.append(id, 1, token(0));
  assert.equal(await store.events.append(id, 1, interrupted), 2);
  assert.equal(await store.events.append(id, 1, token(0)), 'duplicate');
  assert.equal(await store.events.append(id, 1, token(1)), 3);
  await assert.rejects(store.events.beginTurn(id), { code: 'SESSION_BUSY' });
  assert.equal(await store.events.append(id, 1, finished), 4);
  assert.equal(await store.events.append(id, 1, interrupted), 'ended');
});

test('the last sequence is 0 before the first event, and null without a session', async () => {
  const id = await newSession();
  assert.equal(await store.events.lastSequence(id), 0);
  await store.events.append(id, 1, token(0));
  await store.events.append(id, 1, token(1));
  assert.equal(await store.events.lastSequence(id), 2);
  await store.events.append(id, 1, token(1));
  assert.equal(await store.events.lastSequence(id), 2, 'a refusal is no event');
  assert.equal(await store.events.lastSequence(randomBytes(16).toString('hex')), null);
  await assert.rejects(store.events.lastSequence('x'), { code: 'BAD_REQUEST' });
});

test('a token is appended once: one before the next is a duplicate', async () => {
  const id = await newSession();
  assert.equal(await store.events.append(id, 1, token(0)), 1);
  assert.equal(await store.events.append(id, 1, token(0)), 'duplicate');
  assert.equal(await store.events.append(id, 1, token(1)), 2);
  assert.equal((await store.events.read(id, 0, 10)).length, 2);
});

test('what follows tokens that Redis came back without is refused; another attempt goes on', async () => {
  const id = await newSession();
  const record = await store.records.load(id);
  assert.ok(record);
  const begun = await store.records.compareAndSet(record, { ...record, attempt: 1 }, 'router-1');
  assert.ok(begun);
  const append = async (event: SessionEvent, attempt: number) =>
    store.events.append(id, 1, event, { attempt });
  assert.equal(await append(token(0), 1), 1);
  const { stream, events } = sessionKeys(id);
  const older = await Promise.all([stream, events].map(async (key) => redis.dumpBuffer(key)));
  assert.equal(await append(token(1), 1), 2);
  for (const [index, key] of [stream, events].entries()) {
    await redis.restore(key, 0, older[index] ?? '', 'REPLACE');
  }
  assert.equal(await append(token(2), 1), 'stale-epoch');
  assert.equal(await append(finished, 1), 'stale-epoch', 'it tells of two tokens');
  assert.equal(await append(interrupted, 1), 2, 'the decode gives the turn back');
  await store.records.compareAndSet(begun, { ...begun, attempt: 2 }, 'router-1');
  assert.equal(await append(token(1), 2), 3);
  assert.equal(await append(finished, 2), 4);
  const all = await store.events.read(id, 0, 10);
  assert.deepEqual(
    all.map(({ event }) => event),
    [token(0), interrupted, token(1), finished],
  );
});

test('nothing follows a finished event but another turn, whose tokens start at 0', async () => {
  const id = await newSession();
  await assert.doesNotReject(store.events.beginTurn(id), 'the first turn may be begun explicitly');
  await store.events.append(id, 1, token(0));
  await assert.rejects(store.events.beginTurn(id), { code: 'SESSION_BUSY' });
  assert.equal(await store.events.append(id, 1, finished), 2);
  for (const late of [token(1), finished, error, queued]) {
    assert.equal(await store.events.append(id, 1, late), 'ended');
  }
  await store.events.beginTurn(id);
  await store.events.beginTurn(id); // a driver that took over may begin it again
  assert.equal(await store.events.append(id, 1, token(0)), 3);
});

/** A turn as a decode appends it: each event with an id of its own, all with the turn's number. */
function turnOf(sessionId: string, turn: number) {
  const progress: SessionEvent = {
    type: 'progress',
    processedTokens: 9,
    totalTokens: 9,
    cachedTokens: 0,
    etaMs: null,
    promptLogprobs: [],
  };
  const tokens = Array.from({ length: 300 }, (_, index) => token(index));
  return [progress, progress, ...tokens, finished].map((event, place) => ({
    sessionId,
    epoch: 1,
    turn,
    event,
    appendId: `turn-${turn}-${place}`,
  }));
}

test('a batch that is sent again after its reply was lost adds nothing, the finished event too', async () => {
  const id = await newSession();
  const turn = turnOf(id, 0);
  const first = await store.events.appendAll(turn);
  assert.deepEqual(
    first,
    turn.map((_, place) => place + 1),
  );
  const again = await store.events.appendAll(turn);
  assert.equal(again.at(-1), turn.length, 'finished answers as the first time');
  assert.deepEqual(again.slice(0, 2), [1, 2], 'progress does too');
  assert.ok(again.slice(2, -2).every((answer) => answer === 'duplicate'));
  assert.equal((await store.events.read(id, 0, 1_000)).length, turn.length);
});

test('what is left of one turn does not land in the next', async () => {
  const id = await newSession();
  const turn = turnOf(id, 0);
  await store.events.appendAll(turn);
  await store.events.beginTurn(id);
  const late = await store.events.appendAll(turn);
  assert.deepEqual([late[0], late[2], late.at(-1)], [1, 'ended', turn.length]);
  const unknownToken = { sessionId: id, epoch: 1, turn: 0, event: token(0) };
  assert.deepEqual(await store.events.appendAll([unknownToken]), ['ended']);
  assert.equal(await store.events.append(id, 1, queued, { turn: 0 }), 'ended');
  assert.equal((await store.events.read(id, 0, 1_000)).length, turn.length, 'nothing landed');
  const next = await store.events.appendAll(turnOf(id, 1));
  assert.equal(next[2], turn.length + 3, 'the next turn begins at its token 0');
  assert.equal(next.at(-1), 2 * turn.length);
});

test('a turn that is begun twice counts once', async () => {
  const id = await newSession();
  await store.events.append(id, 1, finished, { turn: 0 });
  await store.events.beginTurn(id);
  await store.events.beginTurn(id);
  assert.equal(await store.events.append(id, 1, token(0), { turn: 1 }), 2);
});

test('the ids of the last appends are remembered, not all of them', async () => {
  const id = await newSession();
  for (let n = 0; n < 600; n++) {
    await store.events.append(id, 1, queued, { appendId: `queued-${n}` });
  }
  assert.equal(await store.events.append(id, 1, queued, { appendId: 'queued-599' }), 600);
  assert.equal(await store.events.append(id, 1, queued, { appendId: 'queued-400' }), 401);
  const fields = await redis.hlen(`longshadow:session:${id}:stream`);
  assert.ok(fields < 600, `${fields} fields`);
});

test('nothing follows an error, not even a turn', async () => {
  const id = await newSession();
  assert.equal(await store.events.append(id, 1, error), 1);
  assert.equal(await store.events.append(id, 1, token(0)), 'ended');
  await assert.rejects(store.events.beginTurn(id), { code: 'SESSION_ENDED' });
});

test('a session whose record has ended takes only the error that says why', async () => {
  const id = await newSession();
  const record = await store.records.load(id);
  assert.ok(record);
  await store.records.compareAndSet(record, { ...record, state: 'failed' }, 'router-1');
  assert.equal(await store.events.append(id, 1, token(0)), 'ended');
  assert.equal(await store.events.append(id, 1, error), 1);
  assert.equal(await store.events.append(id, 1, error), 'ended');
  const left = await redis.pttl(`longshadow:session:${id}:events`);
  assert.ok(left > 0, 'an event after the end expires too');
});

test('a session without a record is unknown', async () => {
  const id = randomBytes(16).toString('hex');
  assert.equal(await store.events.append(id, 1, token(0)), 'unknown');
  await assert.rejects(store.events.beginTurn(id), { code: 'SESSION_NOT_FOUND' });
});

test("appendAll appends a step's tokens and answers one result each, in order", async () => {
  const ids = await Promise.all(Array.from({ length: 30 }, newSession));
  const stale = ids[7] ?? '';
  const appends = ids.map((sessionId) => ({
    sessionId,
    epoch: sessionId === stale ? 9 : 1,
    event: token(0),
  }));
  const results = await store.events.appendAll(appends);
  assert.deepEqual(
    results,
    ids.map((id) => (id === stale ? 'stale-epoch' : 1)),
  );
  assert.deepEqual(await store.events.appendAll([]), []);
});

test('appends that race keep the sequence dense', async () => {
  const id = await newSession();
  const other = await openSessionStore(server.url, makeLog('test', 'silent'));
  try {
    const appends = Array.from({ length: 200 }, (_, i) =>
      (i % 2 === 0 ? store : other).events.append(id, 1, queued),
    );
    const sequences = (await Promise.all(appends)).map(Number).sort((a, b) => a - b);
    assert.deepEqual(
      sequences,
      Array.from({ length: 200 }, (_, i) => i + 1),
    );
  } finally {
    await other.close();
  }
});

test('appends work after the scripts are lost, alone and in a batch', async () => {
  const id = await newSession();
  await redis.script('FLUSH');
  assert.deepEqual(
    await store.events.appendAll([{ sessionId: id, epoch: 1, event: token(0) }]),
    [1],
  );
  await redis.script('FLUSH');
  assert.equal(await store.events.append(id, 1, token(1)), 2);
});

test('an event of an unknown form is DATA_LOSS', async () => {
  const id = await newSession();
  await redis.xadd(`longshadow:session:${id}:events`, '1-0', 'e', '{"type":"song"}');
  await assert.rejects(store.events.read(id, 0, 10), { code: 'DATA_LOSS' });
});
