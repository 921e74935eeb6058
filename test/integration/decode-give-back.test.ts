import assert from '../support/assert.js';
import { openSync, closeSync, readdirSync, readSync, statSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { Redis } from 'ioredis';
import type { SessionEvent } from '../../services/domain/session-event.js';
import { Lane, type LaneSession } from '../support/lane.js';
import type { LaneDecode, LaneTurn } from '../support/lane-decode.js';
import { needleSample } from '../support/needle-samples.js';
import { poll } from '../support/poll.js';
import {
  assertSameAnswer,
  firstTurn,
  storedEvents,
  takeOver,
  tokensOf,
  untilTokens,
} from '../support/take-over.js';

const PROMPT = needleSample(0).prompt.slice(0, 1500);
const ANSWER: LaneTurn = { ignoreEos: true, maxNewTokens: 240, temperature: 0.8 };
const ENDLESS: LaneTurn = { ...ANSWER, maxNewTokens: 1_000_000 };

let lane: Lane;
before(async () => {
  lane = await Lane.start();
});
after(async () => {
  await lane.stop();
});

async function sealed(): Promise<LaneSession> {
  const session = await lane.open(PROMPT);
  await lane.prefill(session, 2048);
  return session;
}

async function release(session: LaneSession): Promise<void> {
  await lane.releaseDecode(session);
  await lane.releaseWorker(session);
}

async function undisturbed(): Promise<SessionEvent[]> {
  const session = await sealed();
  await lane.startDecode(session, ANSWER);
  const events = await lane.eventsToEnd(session);
  await release(session);
  return events;
}

async function untilFree(decode: Pick<LaneDecode, 'status'>, withinMs = 10_000): Promise<void> {
  await poll(
    () => decode.status(),
    ({ sessions, privateBytes, mappings }) =>
      sessions === 0 && privateBytes === '0' && mappings === '0',
    withinMs,
  );
}

test('SIGTERM gives a turn back after the grace; another decode goes on with it', async () => {
  const expected = await undisturbed();
  const leaving = await lane.addDecode({ DECODE_SHUTDOWN_GRACE_MS: '100' });
  const [session, kept, turn] = [await sealed(), await sealed(), firstTurn(ANSWER)];
  const idle = { maxNewTokens: 1, keepSessionMs: 60_000 };
  await lane.startDecode(kept, idle, leaving);
  await lane.eventsToEnd(kept);
  await lane.startDecode(session, ANSWER, leaving);
  await untilTokens(lane, session, turn, 5);
  leaving.service.child.signal('SIGTERM');
  const draining = await poll(
    () => lane.store.fleet.members(),
    (members) => members.some(({ draining }) => draining),
    2_000,
  );
  assert.equal(draining.length, 3, 'announced while it still decodes');
  assert.equal((await leaving.service.child.exited).code, 0, 'a clean end');
  const given = await storedEvents(lane, session);
  const last = given.at(-1);
  assert.equal(last?.type === 'interrupted' && last.code, 'SHUTTING_DOWN');
  assert.equal(given.filter(({ type }) => type === 'interrupted').length, 1);
  assert.equal((await storedEvents(lane, kept)).at(-1)?.type, 'finished', 'an idle one just goes');

  const { answered } = await takeOver(lane, session, turn);
  assert.equal(answered, tokensOf(given).length);
  assertSameAnswer(await lane.eventsToEnd(session), expected);
  await Promise.all([session, kept].map(release));
});

test('a decode that was given up and wakes again says nothing more, and frees its memory', async () => {
  const expected = await undisturbed();
  const [session, stale, turn] = [await sealed(), await lane.addDecode(), firstTurn(ANSWER)];
  await lane.startDecode(session, ANSWER, stale);
  await untilTokens(lane, session, turn, 5);
  stale.service.child.signal('SIGSTOP');
  const next = await takeOver(lane, session, turn);
  assert.ok(next.answered < 240, `stopped after ${next.answered} tokens`);
  stale.service.child.signal('SIGCONT');
  assertSameAnswer(await lane.eventsToEnd(next.session), expected);
  await untilFree(stale);
  const events = await storedEvents(lane, session);
  assert.deepEqual(
    tokensOf(events).map(({ index }) => index),
    tokensOf(expected).map(({ index }) => index),
    'each token once',
  );
  assert.equal(events.at(-1)?.type, 'finished');
  await release(session);
});

test('an idle session that another decode took is freed long before its time', async () => {
  const [session, stale] = [await sealed(), await lane.addDecode()];
  await lane.startDecode(session, { maxNewTokens: 1, keepSessionMs: 600_000 }, stale);
  await lane.eventsToEnd(session);
  assert.equal((await stale.status()).sessions, 1, 'kept');
  stale.service.child.signal('SIGSTOP');
  await lane.nextAttempt(session);
  stale.service.child.signal('SIGCONT');
  await untilFree(stale, 20_000);
  await release(session);
});

test('the same decode takes a newer attempt in place of its own, and none that is older', async () => {
  const session = await sealed();
  const later = await lane.nextAttempt(session);
  await lane.startDecode(later, ENDLESS);
  await assert.rejects(lane.startDecode(session, ANSWER), { code: 'STALE_EPOCH' });
  await lane.startDecode(later, ENDLESS); // the same call again
  assert.equal((await lane.decodeStatus()).sessions, 1);
  const turn = firstTurn(ENDLESS);
  await untilTokens(lane, session, turn, 5);
  const { answered } = await takeOver(lane, later, turn);
  assert.equal((await lane.decodeStatus()).sessions, 1, 'the older attempt left');
  await untilTokens(lane, session, turn, answered + 5);
  await release(session);
  await untilFree({ status: () => lane.decodeStatus() });
});

/** Changes one byte in the middle of the session's keys. */
function damageSegment({ record }: LaneSession): void {
  const folder = readdirSync(lane.storeDirectory, { recursive: true, encoding: 'utf8' });
  const name = folder.find((path) => path.includes(record.sessionId) && path.endsWith('.k'));
  assert.ok(name !== undefined);
  const path = join(lane.storeDirectory, name);
  const at = Math.floor(statSync(path).size / 2);
  const file = openSync(path, 'r+');
  const byte = Buffer.alloc(1);
  readSync(file, byte, 0, 1, at);
  byte.writeUInt8(byte.readUInt8() ^ 1);
  writeSync(file, byte, 0, 1, at);
  closeSync(file);
}

test('a segment that proves corrupt gives the turn back with DATA_LOSS; others go on', async () => {
  const expected = await undisturbed();
  const [damaged, sound] = [await sealed(), await sealed()];
  damageSegment(damaged);
  await Promise.all([lane.startDecode(sound, ANSWER), lane.startDecode(damaged, ANSWER)]);
  assertSameAnswer(await lane.eventsToEnd(sound), expected);
  const last = await poll(
    async () => (await storedEvents(lane, damaged)).at(-1),
    (event) => event?.type === 'interrupted',
    10_000,
  );
  assert.equal(last?.type === 'interrupted' && last.code, 'DATA_LOSS');
  await untilFree({ status: () => lane.decodeStatus() });
  await Promise.all([damaged, sound].map(release));
});

test('a session that Redis does not know any more is freed', async () => {
  const session = await sealed();
  await lane.startDecode(session, ENDLESS);
  await untilTokens(lane, session, firstTurn(ENDLESS), 5);
  const redis = new Redis(lane.redis.url.replace('unix://', ''));
  try {
    await redis.del(`longshadow:session:${session.record.sessionId}`);
  } finally {
    redis.disconnect();
  }
  await untilFree({ status: () => lane.decodeStatus() });
  await lane.releaseWorker(session);
});
