import assert from '../../../support/assert.js';
import { after, before, beforeEach, describe, test } from 'node:test';
import { ServingError } from '../../../../services/domain/serving-error.js';
import { DriveWorld, someIds, type WorldDriver } from './drive-world.js';
import { fakeMember } from './fake-members.js';

const PROMPT = someIds(2_500);
const ANSWER = [10, 11, 3];
const HISTORY = [...PROMPT, ...ANSWER];
const BYTES = Math.ceil((2_500 + 16) / 512) * 512 * 1_000;
/** Of them, what a fork does not share: all but the chunks before the tail, which begins at 2,048. */
const NEW_BYTES = BYTES - 2_048 * 1_000;

describe('a fork', () => {
  let world: DriveWorld;
  let router: WorldDriver;
  let source: { sessionId: string; lastSequence: number };
  before(async () => {
    world = await DriveWorld.start();
    router = world.addDriver('router-1');
  });
  after(async () => {
    await world.stop();
  });
  beforeEach(async () => {
    const { starts, turns } = world.decode();
    for (const list of [starts, turns, world.worker().reuses]) list.length = 0;
    await world.announce([fakeMember('worker'), fakeMember('decode')]);
    source = await world.keptSession(router, PROMPT);
  });

  async function releaseAll(...sessionIds: string[]): Promise<void> {
    for (const sessionId of sessionIds) await router.driver.release(sessionId);
    await world.nothingReserved();
  }

  async function capacity(storeCapacityBytes: number): Promise<void> {
    await world.announce([fakeMember('worker', { storeCapacityBytes }), fakeMember('decode')]);
  }

  test('links all segments, copies the ids and reserves memory of its own', async () => {
    const twin = await router.driver.fork(source.sessionId, 0);
    assert.equal(twin.tokens, HISTORY.length);
    assert.deepEqual(world.worker().reuses, [
      {
        ...{ sessionId: twin.sessionId, epoch: 1, beginToken: 0, endToken: PROMPT.length },
        ...{ sourceSessionId: source.sessionId, sourceEpoch: 1 },
      },
    ]);
    const old = await world.record(source.sessionId);
    const record = await world.record(twin.sessionId);
    assert.equal(record.state, 'kept');
    assert.deepEqual(record.segments, old.segments);
    assert.deepEqual(record.origins, [
      { beginToken: 0, endToken: PROMPT.length, fingerprint: old.fingerprint },
    ]);
    assert.notEqual(record.fingerprint, old.fingerprint);
    const ids = await world.store.tokenIds.get(twin.sessionId, 0, HISTORY.length);
    assert.deepEqual([...ids], HISTORY);
    assert.equal(await world.store.reservations.reservedBytes('store-1'), 2 * BYTES);
    await releaseAll(source.sessionId, twin.sessionId);
  });

  test('takes its first turn at a decode that runs its history', async () => {
    const { sessionId } = await router.driver.fork(source.sessionId, 0);
    await world.nextTurn(router, sessionId, [7, 8], { keepSessionMs: 60_000 });
    const first = await world.answer(sessionId);
    assert.deepEqual(first.ids, ANSWER);
    const start = world.decode().starts.at(-1);
    assert.equal(start?.sessionId, sessionId);
    assert.deepEqual([start.epoch, start.attempt, start.turn], [1, 1, 0]);
    assert.deepEqual(start.historyTokenIds, [...ANSWER, 7, 8]);
    assert.equal(start.answeredTokens, 0);
    assert.equal(start.turnBeginToken, HISTORY.length);
    assert.deepEqual(start.answers, [{ beginToken: PROMPT.length, endToken: HISTORY.length }]);
    assert.equal(start.context.cachedTokens, HISTORY.length);
    assert.equal(start.context.promptTokens, HISTORY.length + 2);
    const sequences = (await world.events(sessionId)).map(({ sequence }) => sequence);
    assert.deepEqual(sequences, [1, 2, 3, 4, 5]);
    // Its second turn is appended.
    await world.isKeptBy(router, sessionId);
    await world.nextTurn(router, sessionId, [9]);
    await world.answer(sessionId, first.lastSequence);
    assert.deepEqual(
      world.decode().turns.map(({ turn, tokenIds }) => [turn, tokenIds]),
      [[1, [9]]],
    );
    await world.inState(sessionId, 'finished');
    await releaseAll(source.sessionId);
  });

  test('goes another way than its source, which goes on as if it were alone', async () => {
    const twin = await router.driver.fork(source.sessionId, 0);
    await world.nextTurn(router, twin.sessionId, [7, 8], { keepSessionMs: 60_000 });
    await world.answer(twin.sessionId);
    await world.nextTurn(router, source.sessionId, [5, 6], { keepSessionMs: 60_000 });
    await world.answer(source.sessionId, source.lastSequence);
    assert.deepEqual(world.decode().turns.at(-1)?.tokenIds, [5, 6]);
    await world.isKeptBy(router, source.sessionId);
    await world.isKeptBy(router, twin.sessionId);
    const idsOf = async (sessionId: string): Promise<number[]> => [
      ...(await world.store.tokenIds.get(sessionId, HISTORY.length, HISTORY.length + 5)),
    ];
    assert.deepEqual(await idsOf(source.sessionId), [5, 6, ...ANSWER]);
    assert.deepEqual(await idsOf(twin.sessionId), [7, 8, ...ANSWER]);
    await releaseAll(source.sessionId, twin.sessionId);
  });

  test('outlives its source', async () => {
    const twin = await router.driver.fork(source.sessionId, 0);
    await router.driver.release(source.sessionId);
    await world.nextTurn(router, twin.sessionId, [7]);
    assert.deepEqual((await world.answer(twin.sessionId)).ids, ANSWER);
  });

  test('can be forked again, and names who made its segments', async () => {
    const twin = await router.driver.fork(source.sessionId, 0);
    const { fingerprint } = await world.record(source.sessionId);
    const third = await router.driver.fork(twin.sessionId, 0);
    const record = await world.record(third.sessionId);
    assert.deepEqual(record.origins, [{ beginToken: 0, endToken: PROMPT.length, fingerprint }]);
    await releaseAll(source.sessionId, twin.sessionId, third.sessionId);
  });

  test('that another router takes over before its first turn is as it was', async () => {
    const twin = await router.driver.fork(source.sessionId, 0);
    const other = world.addDriver('router-other');
    await world.nextTurn(other, twin.sessionId, [7]);
    assert.deepEqual((await world.answer(twin.sessionId)).ids, ANSWER);
    assert.equal(world.decode().starts.at(-1)?.turn, 0);
    await other.stop();
    await releaseAll(source.sessionId);
  });

  test('is kept as long as asked for, or else as its source', async () => {
    const before = Date.now();
    const asked = await router.driver.fork(source.sessionId, 5_000);
    const { keepUntilUnixMs } = await world.record(asked.sessionId);
    assert.equal(keepUntilUnixMs, asked.keptUntilUnixMs);
    assert.ok(Math.abs(asked.keptUntilUnixMs - before - 5_000) < 2_000);
    const other = await router.driver.fork(source.sessionId, 0);
    assert.ok(Math.abs(other.keptUntilUnixMs - before - 60_000) < 2_000);
    await releaseAll(source.sessionId, asked.sessionId, other.sessionId);
  });

  test('is no takeover', async () => {
    const takeovers = async (): Promise<string[]> =>
      (await router.metrics()).split('\n').filter((line) => /^longshadow_takeovers/.test(line));
    const before = await takeovers();
    const twin = await router.driver.fork(source.sessionId, 0);
    assert.deepEqual(await takeovers(), before);
    await releaseAll(source.sessionId, twin.sessionId);
  });

  test('of a session whose segments are gone is refused and leaves nothing', async () => {
    world.worker().valueStore.clear();
    const sessions = (await world.store.records.activeSessionIds()).length;
    await assert.rejects(router.driver.fork(source.sessionId, 0), { code: 'SESSION_ENDED' });
    assert.equal((await world.store.records.activeSessionIds()).length, sessions);
    assert.equal(await world.store.reservations.reservedBytes('store-1'), BYTES);
    await releaseAll(source.sessionId);
  });

  test('needs room only for what it does not share, and nobody goes for it', async () => {
    const other = await world.keptSession(router, someIds(2_500, 1_000));
    await capacity(2 * BYTES + NEW_BYTES);
    const twin = await router.driver.fork(source.sessionId, 0);
    assert.equal((await world.record(other.sessionId)).state, 'kept');
    await releaseAll(source.sessionId, twin.sessionId, other.sessionId);
  });

  test('holds what it shared once its source is released', async () => {
    await capacity(BYTES + NEW_BYTES);
    const twin = await router.driver.fork(source.sessionId, 0);
    await router.driver.release(source.sessionId);
    assert.equal(await world.store.reservations.reservedBytes('store-1'), BYTES);
    const run = await world.open(router.driver, { maxPromptTokens: 400, maxNewTokens: 16 });
    assert.equal(await world.store.reservations.reservedBytes('store-1'), BYTES + NEW_BYTES);
    await router.driver.cancel(run.sessionId);
    await releaseAll(twin.sessionId);
  });

  test('finds room for all of it before it runs its own copy', async () => {
    await capacity(BYTES + NEW_BYTES);
    const twin = await router.driver.fork(source.sessionId, 0);
    world.decode().startGate = async () => {
      world.decode().startGate = async () => Promise.resolve();
      return Promise.reject(new ServingError('DATA_LOSS', 'a page is damaged'));
    };
    await world.nextTurn(router, twin.sessionId, [7], { keepSessionMs: 60_000 });
    assert.deepEqual((await world.answer(twin.sessionId)).ids, ANSWER);
    await world.inState(source.sessionId, 'finished');
    assert.equal(await world.store.reservations.reservedBytes('store-1'), BYTES);
    await releaseAll(twin.sessionId);
  });

  test('that the store has no room for is refused, and its source stays', async () => {
    const tight = fakeMember('worker', { storeCapacityBytes: BYTES + NEW_BYTES - 1 });
    await world.announce([tight, fakeMember('decode')]);
    await assert.rejects(router.driver.fork(source.sessionId, 0), { code: 'VALUE_STORE_FULL' });
    await world.isKeptBy(router, source.sessionId);
    await releaseAll(source.sessionId);
  });

  test('of what is not kept, or not there, is refused', async () => {
    await router.driver.release(source.sessionId);
    await assert.rejects(router.driver.fork(source.sessionId, 0), { code: 'SESSION_ENDED' });
    await assert.rejects(router.driver.fork('f'.repeat(32), 0), { code: 'SESSION_NOT_FOUND' });
    await assert.rejects(router.driver.fork('../../etc', 0), { code: 'BAD_REQUEST' });
    await world.nothingReserved();
  });
});
