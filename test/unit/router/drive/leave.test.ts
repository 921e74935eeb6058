import assert from '../../../support/assert.js';
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';
import { closedGate, DriveWorld, someIds, type WorldDriver } from './drive-world.js';

const PROMPT = someIds(2_500);

describe('a router that shuts down', () => {
  let world: DriveWorld;
  let router: WorldDriver;
  let count = 0;
  before(async () => {
    world = await DriveWorld.start();
  });
  after(async () => {
    await world.stop();
  });
  beforeEach(() => {
    world.decode().gate = async () => Promise.resolve();
    world.decode().startGate = async () => Promise.resolve();
    world.worker().gate = async () => Promise.resolve();
    for (const list of [world.worker().releases, world.decode().releases, world.decode().starts]) {
      list.length = 0;
    }
    count += 1;
    router = world.addDriver(`router-${String(count)}`);
  });
  afterEach(async () => {
    await router.stop();
  });

  /** Its next life, which finds what was left. */
  async function nextLife(sessionId: string): Promise<WorldDriver> {
    assert.equal(router.driver.find(sessionId), null);
    assert.equal(await world.store.records.leaseHolder(sessionId), null);
    assert.deepEqual(world.worker().releases, []);
    count += 1;
    router = world.addDriver(`router-${String(count)}`);
    return router;
  }

  const phases = [
    {
      name: 'a chunk runs',
      state: 'prefilling',
      hold: (passed: () => Promise<void>) => {
        world.worker().gate = async ({ beginToken }) =>
          beginToken === 2_048 ? passed() : Promise.resolve();
      },
    },
    {
      name: 'its prompt is sealed',
      state: 'sealing',
      hold: (passed: () => Promise<void>) => {
        world.worker().gate = async ({ kind }) => (kind === 'seal' ? passed() : Promise.resolve());
      },
    },
    {
      name: 'tokens come',
      state: 'decoding',
      hold: (passed: () => Promise<void>) => {
        world.decode().gate = async (index) => (index < 1 ? Promise.resolve() : passed());
      },
    },
  ] as const;
  for (const { name, state, hold } of phases) {
    test(`leaves a session while ${name}, and its relays end with SHUTTING_DOWN`, async () => {
      const gate = closedGate();
      hold(gate.passed);
      const run = await world.generate(router, PROMPT);
      const { sessionId } = run;
      await world.record(sessionId, (record) => record.state === state && record.uploadClosed);
      await router.driver.shutDown(0);
      assert.equal((run.untold.reason as { code: string }).code, 'SHUTTING_DOWN');
      await nextLife(sessionId);
      gate.open();
      assert.deepEqual((await world.answer(sessionId)).ids, [10, 11, 3]);
      assert.ok(world.decode().starts.every(({ attempt }) => attempt === 1));
    });
  }

  test('leaves a kept session, which takes its next turn in the router’s next life', async () => {
    const { sessionId, lastSequence } = await world.keptSession(router, PROMPT);
    await router.driver.shutDown(0);
    await world.nextTurn(await nextLife(sessionId), sessionId, [5]);
    assert.deepEqual((await world.answer(sessionId, lastSequence)).ids, [10, 11, 3]);
    assert.equal(world.decode().starts.length, 1);
  });

  test('waits within its grace for an upload to end, and leaves the session then', async () => {
    const gate = closedGate();
    world.worker().gate = gate.passed;
    const run = await world.open(router.driver);
    run.offer(Uint32Array.from(PROMPT.slice(0, 2_300)), 0);
    const leaving = router.driver.shutDown(5_000);
    run.offer(Uint32Array.from(PROMPT.slice(2_300)), 0);
    run.closeUpload();
    await leaving;
    const { sessionId } = run;
    const ids = await world.store.tokenIds.get(sessionId, 0, PROMPT.length);
    assert.deepEqual([...ids], PROMPT);
    await nextLife(sessionId);
    gate.open();
    assert.deepEqual((await world.answer(sessionId)).ids, [10, 11, 3]);
  });

  test('ends a session whose upload takes longer than its grace', async () => {
    const run = await world.open(router.driver);
    run.offer(Uint32Array.from(PROMPT), 0);
    await router.driver.shutDown(100);
    const { sessionId } = run;
    await assert.rejects(world.answer(sessionId), { code: 'SHUTTING_DOWN' });
    await world.inState(sessionId, 'failed');
    await world.nothingReserved();
  });

  test('takes no session any more, nor a turn, a fork or what nobody drives', async () => {
    const { sessionId } = await world.keptSession(router, PROMPT);
    const left = router;
    await left.driver.shutDown(0);
    await assert.rejects(world.open(left.driver), { code: 'SHUTTING_DOWN' });
    await assert.rejects(world.nextTurn(left, sessionId, [5]), { code: 'SHUTTING_DOWN' });
    await assert.rejects(left.driver.fork(sessionId, 0), { code: 'SHUTTING_DOWN' });
    await new Promise((resolve) => setTimeout(resolve, 700)); // it would look twice a second
    assert.equal(await world.store.records.leaseHolder(sessionId), null);
    const next = await nextLife(sessionId);
    assert.equal(await next.driver.release(sessionId), true);
  });
});

describe('a Redis that lost all its data', () => {
  for (const phase of ['prefilling', 'decoding', 'kept'] as const) {
    test(`ends a session that is ${phase} with SESSION_LOST, and frees its memory`, async () => {
      const world = await DriveWorld.start();
      try {
        const router = world.addDriver('router-1');
        const gate = closedGate();
        if (phase === 'prefilling') world.worker().gate = gate.passed;
        if (phase === 'decoding') world.decode().gate = gate.passed;
        const run = await world.generate(router, PROMPT, { keepSessionMs: 60_000 });
        const { sessionId } = run;
        await world.record(sessionId, ({ state, uploadClosed }) => state === phase && uploadClosed);
        if (phase === 'kept') await world.isKeptBy(router, sessionId);
        const untold = new Promise((resolve) => {
          run.untold.addEventListener('abort', resolve, { once: true });
        });
        await world.raw.flushall();
        await untold;
        assert.equal((run.untold.reason as { code: string }).code, 'SESSION_LOST');
        assert.ok(world.worker().releases.some((release) => release.sessionId === sessionId));
        assert.ok(world.decode().releases.includes(sessionId));
        assert.deepEqual(await world.store.records.activeSessionIds(), []);
        gate.open();
      } finally {
        await world.stop();
      }
    });
  }
});
