import assert from '../../../support/assert.js';
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';
import { ENDED_STATES } from '../../../../services/domain/session-record.js';
import { closedGate, DriveWorld, someIds, type WorldDriver } from './drive-world.js';
import { fakeMember } from './fake-members.js';

const PROMPT = someIds(2_500);
const ANSWER = [10, 11, 12, 3];

describe('a session whose router was killed', () => {
  let world: DriveWorld;
  let first: WorldDriver;
  let second: WorldDriver;
  let drivers = 0;
  before(async () => {
    world = await DriveWorld.start();
  });
  after(async () => {
    await world.stop();
  });
  beforeEach(async () => {
    const { jobs, releases } = world.worker();
    const decode = world.decode();
    for (const list of [jobs, releases, decode.starts, decode.turns, decode.releases]) {
      list.length = 0;
    }
    world.worker().gate = async () => Promise.resolve();
    decode.gate = async () => Promise.resolve();
    decode.startGate = async () => Promise.resolve();
    decode.answer = ANSWER;
    await world.announce([fakeMember('worker'), fakeMember('decode')]);
    drivers += 1;
    first = world.addDriver(`router-first-${String(drivers)}`);
  });

  afterEach(async () => {
    await first.stop();
    await second.stop();
  });

  /** The first router dies; the second one finds the session as soon as its lease has ended. */
  async function takenOver(sessionId: string, more = async () => Promise.resolve()): Promise<void> {
    first.kill();
    await more();
    await world.endLease(sessionId);
    second = world.addDriver(`router-second-${String(drivers)}`);
    const isHere = (): boolean => second.driver.find(sessionId) !== null;
    await world.record(sessionId, ({ state }) => ENDED_STATES.has(state) || isHere());
  }

  async function sequencesAreWhole(sessionId: string): Promise<void> {
    const sequences = (await world.events(sessionId)).map(({ sequence }) => sequence);
    assert.deepEqual(
      sequences,
      Array.from(sequences, (_, at) => at + 1),
    );
  }

  test('is not taken from a living one', async () => {
    const { sessionId } = await world.open(first.driver);
    second = world.addDriver(`router-second-${String(drivers)}`);
    const holder = await world.store.records.leaseHolder(sessionId);
    const kept = await world.generate(second, PROMPT);
    await world.answer(kept.sessionId);
    assert.equal(second.driver.find(sessionId), null);
    assert.equal(await world.store.records.leaseHolder(sessionId), holder);
    await first.driver.cancel(sessionId);
  });

  test('during its upload ends with UPLOAD_LOST, and frees all', async () => {
    const run = await world.open(first.driver);
    run.offer(Uint32Array.from(PROMPT), 0);
    const { sessionId } = run;
    await world.record(sessionId, ({ nextToken }) => nextToken === 2_048);
    first.kill();
    await world.endLease(sessionId);
    second = world.addDriver(`router-second-${String(drivers)}`);
    await assert.rejects(world.answer(sessionId), { code: 'UPLOAD_LOST' });
    await world.inState(sessionId, 'failed');
    assert.deepEqual(world.worker().releases.at(0), { sessionId, epoch: 1 });
    await world.nothingReserved();
  });

  test('in prefill goes on at the chunk that runs, which is not run twice', async () => {
    const gate = closedGate();
    world.worker().gate = async ({ beginToken }) =>
      beginToken === 2_048 ? gate.passed() : Promise.resolve();
    const { sessionId } = await world.generate(first, PROMPT);
    await world.record(sessionId, (record) => record.nextToken === 2_048 && record.uploadClosed);
    await takenOver(sessionId);
    gate.open();
    assert.deepEqual((await world.answer(sessionId)).ids, ANSWER);
    assert.deepEqual(
      world.worker().jobs.map(({ kind, epoch, beginToken }) => [kind, epoch, beginToken]),
      [
        ['prefill', 1, 0],
        ['prefill', 1, 2_048],
        ['seal', 1, 2_500],
      ],
    );
    await sequencesAreWhole(sessionId);
    assert.match(await second.metrics(), /longshadow_takeovers_total\{state="prefilling"[^}]*\} 1/);
  });

  test('while its prompt is sealed goes on', async () => {
    const gate = closedGate();
    world.worker().gate = async ({ kind }) => (kind === 'seal' ? gate.passed() : Promise.resolve());
    const { sessionId } = await world.generate(first, PROMPT);
    await world.inState(sessionId, 'sealing');
    await takenOver(sessionId);
    gate.open();
    assert.deepEqual((await world.answer(sessionId)).ids, ANSWER);
    await world.inState(sessionId, 'finished');
  });

  test('while a decode takes it is started there, once', async () => {
    let reached: () => void = () => undefined;
    const isReached = new Promise<void>((resolve) => {
      reached = resolve;
    });
    const gate = closedGate();
    world.decode().startGate = async () => {
      reached();
      await gate.passed();
    };
    const { sessionId } = await world.generate(first, PROMPT);
    await isReached;
    await takenOver(sessionId);
    gate.open();
    assert.deepEqual((await world.answer(sessionId)).ids, ANSWER);
    assert.deepEqual(
      world.decode().starts.map(({ attempt }) => attempt),
      [1, 1],
    );
    await sequencesAreWhole(sessionId);
  });

  test('while a decode answers is answered on by that one', async () => {
    const gate = closedGate();
    world.decode().gate = async (index) => (index < 2 ? Promise.resolve() : gate.passed());
    const { sessionId } = await world.generate(first, PROMPT);
    await world.until(sessionId, (event) => event.type === 'token' && event.index === 1);
    await world.inState(sessionId, 'decoding');
    await takenOver(sessionId);
    gate.open();
    assert.deepEqual((await world.answer(sessionId)).ids, ANSWER);
    const record = await world.inState(sessionId, 'finished');
    assert.equal(record.attempt, 1);
    assert.ok(world.decode().releases.includes(sessionId));
    await sequencesAreWhole(sessionId);
  });

  test('together with its decode goes on at another decode from what was answered', async () => {
    const gate = closedGate();
    world.decode().gate = async (index) => (index < 2 ? Promise.resolve() : gate.passed());
    const { sessionId } = await world.generate(first, PROMPT);
    await world.until(sessionId, (event) => event.type === 'token' && event.index === 1);
    await world.inState(sessionId, 'decoding');
    await takenOver(sessionId, async () => {
      await world.announce([fakeMember('worker'), fakeMember('decode', { memberId: 'decode-2' })]);
      world.decode('decode-2').answer = ANSWER;
    });
    assert.deepEqual((await world.answer(sessionId)).ids, ANSWER);
    const [start] = world.decode('decode-2').starts;
    assert.deepEqual(start?.historyTokenIds, [10, 11]);
    assert.equal(start.attempt, 2);
  });

  test('together with its worker gets another plan', async () => {
    const gate = closedGate();
    world.worker().gate = async ({ beginToken, epoch }) =>
      beginToken === 2_048 && epoch === 1 ? gate.passed() : Promise.resolve();
    const { sessionId } = await world.generate(first, PROMPT);
    await world.record(sessionId, (record) => record.nextToken === 2_048 && record.uploadClosed);
    await takenOver(sessionId, async () =>
      world.announce([fakeMember('worker', { memberId: 'worker-2' }), fakeMember('decode')]),
    );
    assert.deepEqual((await world.answer(sessionId)).ids, ANSWER);
    const [link] = world.worker('worker-2').reuses;
    assert.deepEqual([link?.sourceEpoch, link?.epoch, link?.endToken], [1, 2, 2_048]);
    gate.open();
  });

  for (const keepSessionMs of [0, 60_000]) {
    const end = keepSessionMs === 0 ? 'finished' : 'kept';
    test(`after its last token is ${end}, as its event says`, async () => {
      const gate = closedGate();
      world.decode().gate = async (index) => (index < 2 ? Promise.resolve() : gate.passed());
      const { sessionId } = await world.generate(first, PROMPT, { keepSessionMs });
      await world.until(sessionId, (event) => event.type === 'token' && event.index === 1);
      await world.inState(sessionId, 'decoding');
      await takenOver(sessionId, async () => {
        gate.open();
        await world.answer(sessionId);
      });
      const record = await world.inState(sessionId, end);
      assert.equal(world.decode().starts.length, 1);
      assert.equal(record.attempt, 1);
      if (end === 'finished') return;
      assert.equal(record.historyTokens, PROMPT.length + ANSWER.length);
      const ids = await world.store.tokenIds.get(sessionId, 0, record.historyTokens);
      assert.deepEqual([...ids], [...PROMPT, ...ANSWER]);
      await second.driver.release(sessionId);
    });
  }

  test('while it is kept stays kept, and takes its next turn at the decode that holds it', async () => {
    const { sessionId } = await world.generate(first, PROMPT, { keepSessionMs: 60_000 });
    const { lastSequence } = await world.answer(sessionId);
    await world.inState(sessionId, 'kept');
    await takenOver(sessionId);
    await world.nextTurn(second, sessionId, [7, 8]);
    assert.deepEqual((await world.answer(sessionId, lastSequence)).ids, ANSWER);
    const [turn] = world.decode().turns;
    assert.deepEqual([turn?.turn, turn?.attempt, turn?.tokenIds], [1, 1, [7, 8]]);
    assert.equal(world.decode().starts.length, 1);
  });

  test('while it is kept is freed when its time is over', async () => {
    const { sessionId } = await world.generate(first, PROMPT, { keepSessionMs: 1_500 });
    await world.inState(sessionId, 'kept');
    await takenOver(sessionId);
    await world.inState(sessionId, 'finished');
    await world.nothingReserved();
    assert.ok(world.decode().releases.includes(sessionId));
  });

  test('and whose worker is gone has its files removed by another worker of the store', async () => {
    const { sessionId } = await world.keptSession(first, PROMPT);
    await takenOver(sessionId, async () =>
      world.announce([fakeMember('worker', { memberId: 'worker-3' }), fakeMember('decode')]),
    );
    await second.driver.release(sessionId);
    assert.deepEqual(world.worker('worker-3').releases, [{ sessionId, epoch: 1 }]);
    await world.nothingReserved();
  });

  test('in its second turn is answered on', async () => {
    const { sessionId } = await world.generate(first, PROMPT, { keepSessionMs: 60_000 });
    const { lastSequence } = await world.answer(sessionId);
    await world.inState(sessionId, 'kept');
    const gate = closedGate();
    world.decode().gate = async (index) => (index < 2 ? Promise.resolve() : gate.passed());
    await world.nextTurn(first, sessionId, [7, 8], { keepSessionMs: 60_000 });
    const isToken = (event: { type: string }): boolean => event.type === 'token';
    await world.until(sessionId, isToken, lastSequence);
    await takenOver(sessionId);
    gate.open();
    assert.deepEqual((await world.answer(sessionId, lastSequence)).ids, ANSWER);
    const record = await world.record(sessionId, ({ state }) => state === 'kept');
    const ids = await world.store.tokenIds.get(sessionId, 0, record.historyTokens);
    assert.deepEqual([...ids], [...PROMPT, ...ANSWER, 7, 8, ...ANSWER]);
    await second.driver.release(sessionId);
  });

  test('ends when no client comes back within its grace', async () => {
    world.worker().gate = async () => new Promise(() => undefined);
    const { sessionId } = await world.generate(first, PROMPT, { resumeGraceMs: 300 });
    await world.record(sessionId, ({ uploadClosed }) => uploadClosed);
    await takenOver(sessionId);
    await assert.rejects(world.answer(sessionId), { code: 'CANCELLED' });
    await world.inState(sessionId, 'cancelled');
  });

  test('lives on while a client follows it at any router, and ends by its deadline', async () => {
    world.worker().gate = async () => new Promise(() => undefined);
    const header = { resumeGraceMs: 200, deadlineMs: 3_000 };
    const { sessionId } = await world.generate(first, PROMPT, header);
    await world.record(sessionId, ({ uploadClosed }) => uploadClosed);
    await world.store.clients.attach(sessionId, 'router-of-the-client');
    await takenOver(sessionId);
    await assert.rejects(world.answer(sessionId), { code: 'DEADLINE_EXCEEDED' });
  });

  test('or stood still until another one had the lease is given up there, untouched', async () => {
    const gate = closedGate();
    world.worker().gate = async ({ kind }) => (kind === 'seal' ? gate.passed() : Promise.resolve());
    const { sessionId } = await world.generate(first, PROMPT);
    await world.inState(sessionId, 'sealing');
    await world.endLease(sessionId);
    const other = 'router-other';
    assert.equal(await world.store.records.takeLease(sessionId, other), 'held');
    await world.record(sessionId, () => first.driver.find(sessionId) === null);
    assert.deepEqual(world.worker().releases, []);
    assert.equal((await world.record(sessionId)).state, 'sealing');
    const types = (await world.events(sessionId)).map(({ event }) => event.type);
    assert.ok(!types.includes('error'));
    await world.store.records.dropLease(sessionId, other);
    gate.open();
    assert.deepEqual((await world.answer(sessionId)).ids, ANSWER);
  });
});
