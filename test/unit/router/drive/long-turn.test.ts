import assert from '../../../support/assert.js';
import { after, before, beforeEach, describe, test } from 'node:test';
import { ServingError } from '../../../../services/domain/serving-error.js';
import { closedGate, DriveWorld, someIds, type WorldDriver } from './drive-world.js';
import { fakeMember } from './fake-members.js';

/** Chunks [0, 2048), [2048, 2560) and the tail [2560, 3000). */
const PROMPT = someIds(3_000);
/** Where chunks of prompt and turn begin, the prompt's tail among them; see TURN. */
const CHUNKS = [0, 2_048, 2_560, 4_096, 6_144, 6_656];
const ANSWER = [10, 11, 3];
const TURN = someIds(4_097, 1_234);
const TURN_BEGIN = PROMPT.length + ANSWER.length;
const TURN_END = TURN_BEGIN + TURN.length;
const KEPT = { keepSessionMs: 60_000 };
const LANE = [fakeMember('worker'), fakeMember('decode')];

describe('a turn that is longer than decode appends', () => {
  let world: DriveWorld;
  let router: WorldDriver;
  let sessionId: string;
  let lastSequence: number;
  before(async () => {
    world = await DriveWorld.start();
    router = world.addDriver('router-1');
  });
  after(async () => {
    await world.stop();
  });
  beforeEach(async () => {
    await world.announce(LANE);
    world.worker().gate = async () => Promise.resolve();
    ({ sessionId, lastSequence } = await world.keptSession(router, PROMPT));
    const { jobs, reuses } = world.worker();
    const { starts, turns } = world.decode();
    for (const list of [jobs, reuses, starts, turns]) list.length = 0;
  });

  function chunksOf(workerId: string, epoch: number): number[] {
    const jobs = world.worker(workerId).jobs.filter((job) => job.sessionId === sessionId);
    return jobs
      .filter((job) => job.kind === 'prefill' && job.epoch === epoch)
      .map(({ beginToken }) => beginToken);
  }

  test('goes back to the lane, over links of all but the prompt’s tail', async () => {
    await world.nextTurn(router, sessionId, TURN, KEPT);
    assert.deepEqual((await world.answer(sessionId, lastSequence)).ids, ANSWER);
    assert.deepEqual(world.worker().reuses, [
      {
        ...{ sessionId, epoch: 2, sourceSessionId: sessionId, sourceEpoch: 1 },
        ...{ beginToken: 0, endToken: 2_560 },
      },
    ]);
    assert.deepEqual(chunksOf('worker-1', 2), CHUNKS.slice(2));
    const [start] = world.decode().starts;
    assert.ok(start !== undefined);
    assert.deepEqual([start.epoch, start.attempt, start.turn], [2, 1, 1]);
    assert.equal(start.turnBeginToken, TURN_BEGIN);
    assert.deepEqual(start.historyTokenIds, []);
    assert.deepEqual(start.answers, []);
    assert.equal(start.context.promptTokens, TURN_END);
    assert.equal(start.context.cachedTokens, 2_560);
    assert.equal(start.context.promptReran, false);
    assert.deepEqual(world.decode().turns, []);
    await world.isKeptBy(router, sessionId);
    const ids = await world.store.tokenIds.get(sessionId, 0, TURN_END + ANSWER.length);
    assert.deepEqual([...ids], [...PROMPT, ...ANSWER, ...TURN, ...ANSWER]);
    await router.driver.release(sessionId);
    await world.nothingReserved();
  });

  test('of exactly as many tokens as decode appends does not', async () => {
    await world.nextTurn(router, sessionId, TURN.slice(1));
    await world.answer(sessionId, lastSequence);
    assert.equal(world.decode().turns[0]?.tokenIds.length, 4_096);
    assert.deepEqual(world.worker().jobs, []);
  });

  test('is followed by one that decode appends', async () => {
    await world.nextTurn(router, sessionId, TURN, KEPT);
    const long = await world.answer(sessionId, lastSequence);
    await world.isKeptBy(router, sessionId);
    await world.nextTurn(router, sessionId, [7, 8]);
    await world.answer(sessionId, long.lastSequence);
    const [turn] = world.decode().turns;
    assert.deepEqual([turn?.epoch, turn?.turn, turn?.tokenIds], [2, 2, [7, 8]]);
    assert.equal(turn?.context.cachedTokens, TURN_END + ANSWER.length);
  });

  test('says that the prompt was run again where its segments are gone', async () => {
    world.worker().valueStore.clear();
    await world.nextTurn(router, sessionId, TURN);
    await world.answer(sessionId, lastSequence);
    assert.deepEqual(chunksOf('worker-1', 2), CHUNKS);
    const context = world.decode().starts[0]?.context;
    assert.deepEqual([context?.cachedTokens, context?.promptReran], [0, true]);
  });

  test('is cut alike where its bytes are damaged and all runs again, and in turns after it', async () => {
    let failures = 1;
    world.worker().gate = async ({ beginToken, epoch }) => {
      if (epoch !== 2 || beginToken !== 6_656 || failures === 0) return;
      failures -= 1;
      await Promise.reject(new ServingError('DATA_LOSS', 'a page is damaged'));
    };
    await world.nextTurn(router, sessionId, TURN, KEPT);
    const long = await world.answer(sessionId, lastSequence);
    assert.deepEqual(chunksOf('worker-1', 3), CHUNKS);
    await world.isKeptBy(router, sessionId);
    const { sessionId: twinId } = await router.driver.fork(sessionId, 60_000);
    world.worker().valueStore.clear();
    await world.nextTurn(router, sessionId, TURN);
    await world.answer(sessionId, long.lastSequence);
    const third = [...CHUNKS, 8_192, 10_240, 10_752];
    assert.deepEqual(chunksOf('worker-1', 4), third);
    await world.nextTurn(router, twinId, TURN);
    await world.answer(twinId);
    const { jobs } = world.worker();
    const ofTwin = jobs.filter(({ sessionId: id, kind }) => id === twinId && kind === 'prefill');
    assert.deepEqual(
      ofTwin.map(({ beginToken }) => beginToken),
      third,
    );
  });

  test('moves to another store where its own has no lane any more', async () => {
    const draining = fakeMember('worker', { draining: true });
    const other = [
      fakeMember('worker', { memberId: 'worker-2', storeId: 'store-2' }),
      fakeMember('decode', { memberId: 'decode-2', storeId: 'store-2' }),
    ];
    await world.announce([draining, fakeMember('decode'), ...other]);
    await world.nextTurn(router, sessionId, TURN);
    const { reservation } = await world.record(sessionId);
    assert.equal(reservation?.storeId, 'store-2');
    assert.equal(reservation.tokens, TURN_END + 16);
    await world.answer(sessionId, lastSequence);
    assert.deepEqual(chunksOf('worker-2', 2), CHUNKS);
    assert.equal(world.decode('decode-2').starts[0]?.turn, 1);
    await world.inState(sessionId, 'finished');
    for (const storeId of ['store-1', 'store-2']) await world.nothingReserved(storeId);
  });

  test('survives the loss of its worker and of its router', async () => {
    const gate = closedGate();
    world.worker().gate = async ({ beginToken, epoch }) =>
      epoch === 2 && beginToken === 4_096 ? gate.passed() : Promise.resolve();
    const turnRouter = world.addDriver('router-short-lived');
    await world.nextTurn(turnRouter, sessionId, TURN);
    await world.record(sessionId, ({ nextToken }) => nextToken === 4_096);
    await world.announce([fakeMember('worker', { memberId: 'worker-3' }), fakeMember('decode')]);
    turnRouter.kill();
    await world.endLease(sessionId);
    assert.deepEqual((await world.answer(sessionId, lastSequence)).ids, ANSWER);
    assert.deepEqual(chunksOf('worker-3', 3), [4_096, 6_144, 6_656]);
    const start = world.decode().starts.at(-1);
    assert.deepEqual([start?.epoch, start?.turn, start?.turnBeginToken], [3, 1, TURN_BEGIN]);
    assert.equal(start?.context.promptTokens, TURN_END);
    gate.open();
  });

  test('that no lane takes is refused, and the session stays kept', async () => {
    await world.announce([fakeMember('worker', { draining: true }), fakeMember('decode')]);
    await assert.rejects(world.nextTurn(router, sessionId, TURN), { code: 'NO_WORKER' });
    await world.announce(LANE);
    await world.isKeptBy(router, sessionId);
    await world.nextTurn(router, sessionId, [5]);
    assert.deepEqual((await world.answer(sessionId, lastSequence)).ids, ANSWER);
  });

  test('finds a place at the full decode that holds its session', async () => {
    const full = fakeMember('decode', { maxSessions: 1, activeSessions: 1 });
    await world.announce([fakeMember('worker'), full]);
    await world.nextTurn(router, sessionId, TURN);
    assert.deepEqual((await world.answer(sessionId, lastSequence)).ids, ANSWER);
  });
});
