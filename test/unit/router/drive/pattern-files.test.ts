import assert from '../../../support/assert.js';
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';
import type { FleetMember } from '../../../../services/domain/fleet.js';
import { ServingError } from '../../../../services/domain/serving-error.js';
import type { SessionRecord } from '../../../../services/domain/session-record.js';
import { closedGate, DriveWorld, someIds, type WorldDriver } from './drive-world.js';
import { fakeMember } from './fake-members.js';

const PROMPT = someIds(3_000);
const OTHER_FILE = '1'.repeat(64);
/** Worker-1 has another pattern file than the router, worker-2 the same one. */
const DIFFERENT = fakeMember('worker', { patternsSha256: OTHER_FILE });
const SAME = fakeMember('worker', { memberId: 'worker-2' });
const DECODE = fakeMember('decode');
const MINFERENCE = { prefillPolicy: 'minference' } as const;
const REFUSED = { code: 'NO_WORKER', message: /patterns e{12} of .* have 1{12}; start all with/ };

describe('workers that have read different pattern files', () => {
  let world: DriveWorld;
  let router: WorldDriver;
  before(async () => {
    world = await DriveWorld.start();
    await world.announce([DIFFERENT, SAME, DECODE]);
    router = world.addDriver('router-1');
  });
  after(async () => {
    await world.stop();
  });
  beforeEach(async () => {
    await fleet(DIFFERENT, SAME);
    world.worker('worker-2').gate = async () => Promise.resolve();
  });
  afterEach(async () => {
    await world.nothingReserved();
  });

  async function fleet(...workers: readonly FleetMember[]): Promise<void> {
    await world.announce([...workers, DECODE]);
  }

  function ran(workerId: string, { sessionId }: { readonly sessionId: string }): number {
    return world.worker(workerId).jobs.filter((job) => job.sessionId === sessionId).length;
  }

  test('share the sessions that need none', async () => {
    await fleet(DIFFERENT, { ...SAME, activeSessions: 9 });
    for (const prefillPolicy of ['dense', 'flexprefill'] as const) {
      const run = await world.generate(router, PROMPT, { prefillPolicy });
      await world.answer(run.sessionId);
      assert.ok(ran('worker-1', run) > 0, prefillPolicy);
    }
  });

  test('leave minference to the one with the router’s, however busy it is', async () => {
    await fleet(DIFFERENT, { ...SAME, activeSessions: 9 });
    const run = await world.generate(router, PROMPT, MINFERENCE);
    await world.answer(run.sessionId);
    assert.deepEqual(run.record.lane, ['worker-2']);
    assert.equal(ran('worker-1', run), 0);
  });

  test('refuse it at admission where none has the router’s, naming both files', async () => {
    await fleet(DIFFERENT);
    await assert.rejects(world.generate(router, PROMPT, MINFERENCE), REFUSED);
  });

  test('take it over only with the same file: it waits for one', async () => {
    const { sessionId, fail } = await loseAtTail();
    await fleet(DIFFERENT);
    fail(new ServingError('WORKER_LOST', 'its host burned down'));
    await world.until(sessionId, ({ type }) => type === 'interrupted');
    await fleet(DIFFERENT, { ...SAME, memberId: 'worker-3' });
    await world.answer(sessionId);
    assert.equal(ran('worker-1', { sessionId }), 0);
    assert.ok(ran('worker-3', { sessionId }) > 0);
  });

  test('do not count as damage where one comes back with another file', async () => {
    const { sessionId, fail } = await loseAtTail();
    const back = { ...SAME, patternsSha256: OTHER_FILE, startedUnixMs: 2 };
    await fleet(back, { ...SAME, memberId: 'worker-3' });
    fail(new ServingError('WORKER_LOST', 'the pattern files differ'));
    await world.answer(sessionId);
    const record: SessionRecord = await world.inState(sessionId, 'finished');
    assert.deepEqual([record.lane, record.dataLosses], [['worker-3'], 0]);
  });

  test('refuse a long turn where none has the session’s any more', async () => {
    const { sessionId } = await world.keptSession(router, PROMPT, MINFERENCE);
    await fleet(DIFFERENT);
    await assert.rejects(world.nextTurn(router, sessionId, someIds(4_097)), REFUSED);
    await fleet(SAME);
    await world.nextTurn(router, sessionId, someIds(4_097));
    await world.inState(sessionId, 'finished');
  });

  /** A minference session whose worker-2 is about to lose its last chunk. */
  async function loseAtTail() {
    const reached = closedGate();
    const gate = closedGate();
    let failure: ServingError | null = null;
    world.worker('worker-2').gate = async ({ beginToken }) => {
      if (beginToken !== 2_560) return;
      reached.open();
      await gate.passed();
      if (failure !== null) throw failure;
    };
    const { sessionId } = await world.generate(router, PROMPT, MINFERENCE);
    await reached.passed();
    const fail = (error: ServingError): void => {
      failure = error;
      gate.open();
    };
    return { sessionId, fail };
  }
});
