import assert from '../../../support/assert.js';
import { after, before, beforeEach, describe, test } from 'node:test';
import { poll } from '../../../support/poll.js';
import { closedGate, DriveWorld, someIds, type WorldDriver } from './drive-world.js';

const PROMPT = someIds(700);
const KEPT = { keepSessionMs: 60_000 };

describe('a session between two living routers', () => {
  let world: DriveWorld;
  let first: WorldDriver;
  let second: WorldDriver;
  before(async () => {
    world = await DriveWorld.start();
    first = world.addDriver('router-1');
    second = world.addDriver('router-2');
  });
  after(async () => {
    await world.stop();
  });
  beforeEach(() => {
    const decode = world.decode();
    for (const list of [decode.starts, decode.turns, decode.releases]) list.length = 0;
    decode.gate = async () => Promise.resolve();
    world.worker().gate = async () => Promise.resolve();
    world.worker().releases.length = 0;
  });

  async function kept(router: WorldDriver): Promise<{ sessionId: string; lastSequence: number }> {
    return world.keptSession(router, PROMPT);
  }

  test('is let go for its next turn, which its decode appends, and frees nothing', async () => {
    const { sessionId, lastSequence } = await kept(first);
    await world.nextTurn(second, sessionId, [7, 8], KEPT);
    const { ids } = await world.answer(sessionId, lastSequence);
    assert.deepEqual(ids, [10, 11, 3]);
    assert.equal(first.driver.find(sessionId), null);
    assert.notEqual(second.driver.find(sessionId), null);
    assert.deepEqual(world.decode().turns[0]?.tokenIds, [7, 8]);
    assert.equal(world.decode().starts.length, 1);
    assert.deepEqual(world.decode().releases, []);
    assert.deepEqual(world.worker().releases, []);
    await world.isKeptBy(second, sessionId);
    assert.equal(await second.driver.release(sessionId), true);
    await world.nothingReserved();
  });

  test('goes back and forth', async () => {
    const { sessionId, lastSequence } = await kept(first);
    let after = lastSequence;
    for (const router of [second, first, second]) {
      await world.nextTurn(router, sessionId, [7, 8], KEPT);
      after = (await world.answer(sessionId, after)).lastSequence;
      await world.isKeptBy(router, sessionId);
    }
    assert.deepEqual(
      world.decode().turns.map(({ turn }) => turn),
      [1, 2, 3],
    );
    await second.driver.release(sessionId);
  });

  test('is not let go during a turn', async () => {
    const { sessionId } = await kept(first);
    const gate = closedGate();
    world.decode().gate = gate.passed;
    await world.nextTurn(first, sessionId, [7, 8], { keepSessionMs: 0 });
    await assert.rejects(world.nextTurn(second, sessionId, [9]), { code: 'SESSION_BUSY' });
    assert.notEqual(first.driver.find(sessionId), null);
    gate.open();
    await world.inState(sessionId, 'finished');
  });

  test('is released, cancelled and forked by the other one', async () => {
    const released = await kept(first);
    assert.equal(await second.driver.release(released.sessionId), true);
    await world.inState(released.sessionId, 'finished');
    const cancelled = await kept(first);
    assert.equal(await second.driver.cancel(cancelled.sessionId), true);
    await world.inState(cancelled.sessionId, 'cancelled');
    const forked = await kept(first);
    const twin = await second.driver.fork(forked.sessionId, 0);
    assert.equal(twin.tokens, PROMPT.length + 3);
    for (const id of [twin.sessionId, forked.sessionId]) await second.driver.release(id);
    await world.nothingReserved();
  });

  test('in a turn is cancelled by the other one through its events', async () => {
    const gate = closedGate();
    world.decode().gate = gate.passed;
    const { sessionId } = await world.generate(first, PROMPT);
    await world.inState(sessionId, 'decoding');
    assert.equal(await second.driver.cancel(sessionId), true);
    await world.inState(sessionId, 'cancelled');
    assert.equal(await second.driver.cancel(sessionId), false);
    await world.nothingReserved();
    gate.open();
  });

  test('is evicted by its driver while it is kept, and not in a turn', async () => {
    const { sessionId, lastSequence } = await kept(first);
    const gate = closedGate();
    world.decode().gate = gate.passed;
    await world.nextTurn(first, sessionId, [7], KEPT);
    const { driverRequests } = world.store;
    assert.equal(await driverRequests.send(first.id, { kind: 'evict', sessionId }), true);
    gate.open();
    await world.answer(sessionId, lastSequence);
    await world.isKeptBy(first, sessionId);
    assert.notEqual(first.driver.find(sessionId), null);
    await driverRequests.send(first.id, { kind: 'evict', sessionId });
    await world.inState(sessionId, 'finished');
    await world.nothingReserved();
    const counted = (text: string): boolean =>
      /longshadow_evictions_total(\{[^}]*\})? 1/.test(text);
    await poll(async () => first.metrics(), counted, 2_000);
    await assert.rejects(world.nextTurn(second, sessionId, [8]), { code: 'SESSION_ENDED' });
  });

  test('that was kept is listed for eviction until its next turn, and after that again', async () => {
    const { sessionId, lastSequence } = await kept(first);
    const listed = async (): Promise<string[]> => world.store.kept.leastRecentlyUsed('store-1', 10);
    assert.deepEqual(await listed(), [sessionId]);
    const gate = closedGate();
    world.decode().gate = gate.passed;
    await world.nextTurn(second, sessionId, [7], KEPT);
    await world.until(sessionId, ({ type }) => type === 'accepted', lastSequence);
    assert.deepEqual(await listed(), []);
    gate.open();
    await world.answer(sessionId, lastSequence);
    await world.isKeptBy(second, sessionId);
    await second.driver.release(sessionId);
    assert.deepEqual(await listed(), []);
  });

  test('stays listed for eviction, and its chunks offered, when it changes its router', async () => {
    const { sessionId } = await world.keptSession(first, someIds(2_500));
    world.worker().reuses.length = 0;
    await world.continueKept(second, sessionId);
    assert.equal(first.driver.find(sessionId), null);
    assert.deepEqual(await world.store.kept.leastRecentlyUsed('store-1', 10), [sessionId]);
    const like = await world.generate(second, someIds(2_500));
    await world.answer(like.sessionId);
    assert.deepEqual(
      world.worker().reuses.map(({ sourceSessionId }) => sourceSessionId),
      [sessionId],
    );
    await second.driver.release(sessionId);
    await world.nothingReserved();
  });

  test('is asked for again where a third router found it undriven first', async () => {
    const { sessionId, lastSequence } = await kept(first);
    const { driverRequests, records } = world.store;
    const third = 'router-3';
    const stops = [
      driverRequests.listen(first.id, () => {
        const taken = async (): Promise<boolean> =>
          (await records.takeLease(sessionId, third)) === 'held';
        void poll(taken, (isTaken) => isTaken, 5_000, 1);
      }),
      driverRequests.listen(third, () => void records.dropLease(sessionId, third)),
    ];
    await world.nextTurn(second, sessionId, [7]);
    assert.deepEqual((await world.answer(sessionId, lastSequence)).ids, [10, 11, 3]);
    for (const stop of stops) stop();
  });

  test('is no takeover when it was asked for', async () => {
    const fourth = world.addDriver('router-4');
    const { sessionId, lastSequence } = await kept(first);
    await world.nextTurn(fourth, sessionId, [7]);
    await world.answer(sessionId, lastSequence);
    assert.doesNotMatch(await fourth.metrics(), /longshadow_takeovers_total\{[^}]*\} [1-9]/);
    await world.inState(sessionId, 'finished');
    await fourth.stop();
  });
});
