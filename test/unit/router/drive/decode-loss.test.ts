import assert from '../../../support/assert.js';
import { after, before, beforeEach, describe, test } from 'node:test';
import { ServingError } from '../../../../services/domain/serving-error.js';
import { closedGate, DriveWorld, someIds, type WorldDriver } from './drive-world.js';
import { fakeMember } from './fake-members.js';

const PROMPT = someIds(700);
const ANSWER = [10, 11, 12, 13, 14, 3];
const FIRST = fakeMember('decode');
const SECOND = fakeMember('decode', { memberId: 'decode-2' });
const WORKER = fakeMember('worker');

describe('a session that loses its decode', () => {
  let world: DriveWorld;
  let router: WorldDriver;
  before(async () => {
    world = await DriveWorld.start();
    router = world.addDriver('router-1');
    await world.announce([WORKER, FIRST, SECOND]);
  });
  after(async () => {
    await world.stop();
  });
  beforeEach(async () => {
    for (const decodeId of ['decode-1', 'decode-2']) {
      const decode = world.decode(decodeId);
      decode.answer = ANSWER;
      decode.gate = async () => Promise.resolve();
      decode.startGate = async () => Promise.resolve();
      for (const list of [decode.starts, decode.turns, decode.releases]) list.length = 0;
    }
    world.worker().reuses.length = 0;
    await world.announce([WORKER, FIRST]);
  });

  /** Decode-1 holds back all from the token of this index on. */
  function holdFrom(index: number): { open: () => void } {
    const gate = closedGate();
    world.decode().gate = async (at) => (at < index ? Promise.resolve() : gate.passed());
    return gate;
  }

  /** A session whose decode-1 has answered `tokens` tokens. */
  async function answered(tokens: number, header = {}): Promise<string> {
    holdFrom(tokens);
    const { sessionId } = await world.generate(router, PROMPT, header);
    await world.until(sessionId, (event) => event.type === 'token' && event.index === tokens - 1);
    return sessionId;
  }

  test('goes on at another one from the tokens that were answered', async () => {
    const sessionId = await answered(3);
    await world.announce([WORKER, fakeMember('decode', { draining: true }), SECOND]);
    await world.decode().handBack(sessionId);
    const { ids } = await world.answer(sessionId);
    assert.deepEqual(ids, ANSWER);
    const [start] = world.decode('decode-2').starts;
    assert.equal(start?.attempt, 2);
    assert.equal(start.epoch, 1);
    assert.equal(start.turn, 0);
    assert.equal(start.turnBeginToken, 0);
    assert.deepEqual(start.historyTokenIds, [10, 11, 12]);
    assert.equal(start.answeredTokens, 3);
    assert.notEqual(start.context.firstTokenUnixMs, null);
    assert.equal(world.decode().starts.length, 1);
    const record = await world.inState(sessionId, 'finished');
    assert.equal(record.decodeId, 'decode-2');
    assert.equal(record.attempt, 2);
  });

  test('is told once that it was handed back, with the reason', async () => {
    const sessionId = await answered(1);
    await world.announce([WORKER, SECOND]);
    await world.decode().handBack(sessionId);
    await world.answer(sessionId);
    const events = await world.events(sessionId);
    const told = events.filter(({ event }) => event.type === 'interrupted');
    assert.deepEqual(
      told.map(({ event }) => event.type === 'interrupted' && event.code),
      ['SHUTTING_DOWN'],
    );
    assert.match(await router.metrics(), /longshadow_decode_restarts_total\{[^}]*\} [1-9]/);
  });

  test('is told once that bytes did not match which its decode met', async () => {
    const sessionId = await answered(1);
    world.decode().gate = async () => Promise.resolve();
    await world.decode().handBack(sessionId, 'DATA_LOSS');
    assert.deepEqual((await world.answer(sessionId)).ids, ANSWER);
    const events = (await world.events(sessionId)).map(({ event }) => event);
    assert.deepEqual(
      events.flatMap((event) => (event.type === 'interrupted' ? [event.code] : [])),
      ['DATA_LOSS'],
    );
    const { epoch, dataLosses } = await world.record(sessionId);
    assert.deepEqual({ epoch, dataLosses }, { epoch: 2, dataLosses: 1 });
  });

  test('that is gone without a word goes on at another one', async () => {
    const sessionId = await answered(2);
    await world.announce([WORKER, SECOND]);
    assert.deepEqual((await world.answer(sessionId)).ids, ANSWER);
    assert.deepEqual(world.decode('decode-2').starts[0]?.historyTokenIds, [10, 11]);
    const events = await world.events(sessionId);
    assert.ok(
      events.some(({ event }) => event.type === 'interrupted' && event.code === 'DECODE_LOST'),
    );
  });

  test('that starts anew under its name gives it the turn again', async () => {
    const sessionId = await answered(2);
    world.decode().gate = async () => Promise.resolve();
    await world.announce([WORKER, fakeMember('decode', { startedUnixMs: 2 })]);
    assert.deepEqual((await world.answer(sessionId)).ids, ANSWER);
    assert.deepEqual(
      world.decode().starts.map(({ attempt, answeredTokens }) => [attempt, answeredTokens]),
      [
        [1, 0],
        [2, 2],
      ],
    );
  });

  test('that wakes again after it was given up adds nothing to the answer', async () => {
    const late = holdFrom(2);
    const { sessionId } = await world.generate(router, PROMPT);
    await world.until(sessionId, (event) => event.type === 'token' && event.index === 1);
    const held = closedGate();
    world.decode('decode-2').gate = async (at) => (at < 4 ? Promise.resolve() : held.passed());
    await world.announce([WORKER, SECOND]);
    await world.until(sessionId, (event) => event.type === 'token' && event.index === 3);
    world.decode().answer = [10, 11, 99, 99, 99, 99, 99];
    late.open();
    await world.record(sessionId, () => !world.decode().holds(sessionId));
    held.open();
    assert.deepEqual((await world.answer(sessionId)).ids, ANSWER);
  });

  test('waits for a decode while there is none', async () => {
    const sessionId = await answered(2);
    await world.announce([WORKER]);
    await world.until(sessionId, ({ type }) => type === 'interrupted');
    await world.announce([WORKER, SECOND]);
    assert.deepEqual((await world.answer(sessionId)).ids, ANSWER);
  });

  test('ends with NO_DECODE when none comes in time', async () => {
    const impatient = world.addDriver('router-impatient', 0);
    holdFrom(1);
    const { sessionId } = await world.generate(impatient, PROMPT);
    await world.until(sessionId, ({ type }) => type === 'token');
    await world.announce([WORKER, fakeMember('decode', { draining: true })]);
    await world.decode().handBack(sessionId);
    await assert.rejects(world.answer(sessionId), { code: 'NO_DECODE' });
    await world.nothingReserved();
  });

  for (const code of ['TOO_MANY_SESSIONS', 'SHUTTING_DOWN', 'DECODE_LOST'] as const) {
    test(`goes to another one where StartSession is refused with ${code}`, async () => {
      await world.announce([WORKER, FIRST, SECOND]);
      for (const decodeId of ['decode-1', 'decode-2']) {
        const decode = world.decode(decodeId);
        decode.startGate = async () => {
          const all = [...world.decode().starts, ...world.decode('decode-2').starts];
          if (all.length > 1) return Promise.resolve();
          return Promise.reject(new ServingError(code, 'not here'));
        };
      }
      const { sessionId } = await world.generate(router, PROMPT);
      assert.deepEqual((await world.answer(sessionId)).ids, ANSWER);
      const starts = ['decode-1', 'decode-2'].flatMap((id) => world.decode(id).starts);
      assert.deepEqual(starts.map(({ attempt }) => attempt).sort(), [1, 2]);
      assert.equal(world.decode().starts.length, 1);
    });
  }

  test('comes back to a single one that had no place, once it has', async () => {
    let refusals = 1;
    world.decode().startGate = async () => {
      if (refusals === 0) return Promise.resolve();
      refusals -= 1;
      return Promise.reject(new ServingError('TOO_MANY_SESSIONS', 'full'));
    };
    const { sessionId } = await world.generate(router, PROMPT);
    assert.deepEqual((await world.answer(sessionId)).ids, ANSWER);
  });

  test('comes back to a single one whose fault it was', async () => {
    const sessionId = await answered(2);
    world.decode().gate = async () => Promise.resolve();
    await world.decode().handBack(sessionId, 'INTERNAL');
    assert.deepEqual((await world.answer(sessionId)).ids, ANSWER);
    assert.deepEqual(world.decode().starts.at(-1)?.historyTokenIds, [10, 11]);
  });

  test('ends where the fault of a decode comes again', async () => {
    const sessionId = await answered(2);
    await world.announce([WORKER, FIRST, SECOND]);
    const gate = closedGate();
    world.decode('decode-2').gate = gate.passed;
    await world.decode().handBack(sessionId, 'INTERNAL');
    await world.record(sessionId, () => world.decode('decode-2').holds(sessionId));
    await world.decode('decode-2').handBack(sessionId, 'INTERNAL');
    await assert.rejects(world.answer(sessionId), { code: 'INTERNAL' });
  });

  test('gets another plan where the segments did not match, and keeps its answer', async () => {
    const sessionId = await answered(3);
    world.decode().gate = async () => Promise.resolve();
    await world.decode().handBack(sessionId, 'DATA_LOSS');
    assert.deepEqual((await world.answer(sessionId)).ids, ANSWER);
    const start = world.decode().starts.at(-1);
    assert.equal(start?.epoch, 2);
    assert.deepEqual(start.historyTokenIds, [10, 11, 12]);
    assert.equal(start.answeredTokens, 3);
    assert.deepEqual(world.worker().reuses, []);
    assert.equal((await world.inState(sessionId, 'finished')).dataLosses, 1);
  });

  test('gets another plan where the hand-off cannot be had', async () => {
    let refusals = 1;
    world.decode().startGate = async () => {
      if (refusals === 0) return Promise.resolve();
      refusals -= 1;
      return Promise.reject(new ServingError('WORKER_LOST', 'segments are missing'));
    };
    await world.announce([WORKER, fakeMember('worker', { memberId: 'worker-2' }), FIRST]);
    const { sessionId } = await world.generate(router, PROMPT);
    assert.deepEqual((await world.answer(sessionId)).ids, ANSWER);
    assert.equal(world.decode().starts.at(-1)?.epoch, 2);
  });

  test('does not wait for one that stopped while it took the hand-off', async () => {
    let reached: () => void = () => undefined;
    const isReached = new Promise<void>((resolve) => {
      reached = resolve;
    });
    world.decode().startGate = async () => {
      reached();
      return new Promise(() => undefined);
    };
    const { sessionId } = await world.generate(router, PROMPT);
    await isReached;
    await world.announce([WORKER, SECOND]);
    assert.deepEqual((await world.answer(sessionId)).ids, ANSWER);
    assert.equal(world.decode('decode-2').starts[0]?.epoch, 1);
  });

  test('does not wait for a worker that stopped while it gave the hand-off', async () => {
    let reached: () => void = () => undefined;
    const isReached = new Promise<void>((resolve) => {
      reached = resolve;
    });
    world.decode().startGate = async (_, { workerAddress }) => {
      reached();
      return workerAddress === 'worker-1' ? new Promise(() => undefined) : Promise.resolve();
    };
    const { sessionId } = await world.generate(router, PROMPT);
    await isReached;
    await world.announce([fakeMember('worker', { memberId: 'worker-2' }), FIRST]);
    assert.deepEqual((await world.answer(sessionId)).ids, ANSWER);
    assert.equal(world.decode().starts.at(-1)?.epoch, 2);
    assert.equal(world.worker('worker-2').reuses[0]?.endToken, PROMPT.length);
  });

  test('in its second turn gets all tokens after the sealed ones', async () => {
    const { sessionId } = await world.generate(router, PROMPT, { keepSessionMs: 60_000 });
    const { lastSequence } = await world.answer(sessionId);
    await world.inState(sessionId, 'kept');
    holdFrom(2);
    const turn = someIds(9, 77);
    await world.nextTurn(router, sessionId, turn);
    await world.until(
      sessionId,
      (event) => event.type === 'token' && event.index === 1,
      lastSequence,
    );
    await world.announce([WORKER, SECOND]);
    await world.decode().handBack(sessionId);
    assert.deepEqual((await world.answer(sessionId, lastSequence)).ids, ANSWER);
    const [start] = world.decode('decode-2').starts;
    assert.equal(start?.turn, 1);
    assert.deepEqual(start.historyTokenIds, [...ANSWER, ...turn, 10, 11]);
    assert.equal(start.answeredTokens, 2);
    assert.equal(start.turnBeginToken, PROMPT.length + ANSWER.length);
    assert.deepEqual(start.answers, [
      { beginToken: PROMPT.length, endToken: PROMPT.length + ANSWER.length },
    ]);
    assert.equal(start.context.promptTokens, PROMPT.length + ANSWER.length + turn.length);
  });

  test('while it is kept is started at another one by its next turn', async () => {
    const { sessionId } = await world.generate(router, PROMPT, { keepSessionMs: 60_000 });
    const { lastSequence } = await world.answer(sessionId);
    await world.inState(sessionId, 'kept');
    await world.announce([WORKER, SECOND]);
    world.decode('decode-2').answer = [20, 3];
    const turn = someIds(5, 50);
    await world.nextTurn(router, sessionId, turn, { keepSessionMs: 60_000 });
    const second = await world.answer(sessionId, lastSequence);
    assert.deepEqual(second.ids, [20, 3]);
    assert.deepEqual(world.decode('decode-2').starts[0]?.historyTokenIds, [...ANSWER, ...turn]);
    // The third turn is appended there.
    await world.record(sessionId, ({ historyTokens }) => historyTokens === 700 + 6 + 5 + 2);
    await world.nextTurn(router, sessionId, [9, 9]);
    await world.answer(sessionId, second.lastSequence);
    const appended = world.decode('decode-2').turns.at(-1);
    assert.deepEqual([appended?.turn, appended?.tokenIds], [2, [9, 9]]);
  });
});
