import assert from '../../../support/assert.js';
import { setTimeout as delay } from 'node:timers/promises';
import { after, before, beforeEach, describe, test } from 'node:test';
import { type ErrorCode, ServingError } from '../../../../services/domain/serving-error.js';
import type { PrefillJob } from '../../../../services/domain/prefill-job.js';
import { closedGate, DriveWorld, someIds, type WorldDriver } from './drive-world.js';
import { fakeMember } from './fake-members.js';

const PROMPT = someIds(5_000);
/** Cuts of a prompt of 5,000 tokens. */
const CHUNKS = [
  [0, 2_048],
  [2_048, 4_096],
  [4_096, 4_608],
  [4_608, 5_000],
] as const;
const LANE = [fakeMember('worker'), fakeMember('decode')];
const SECOND = fakeMember('worker', { memberId: 'worker-2' });
const OTHER_STORE = [
  fakeMember('worker', { memberId: 'worker-3', storeId: 'store-2' }),
  fakeMember('decode', { memberId: 'decode-3', storeId: 'store-2' }),
];

describe('a session that loses its worker', () => {
  let world: DriveWorld;
  let router: WorldDriver;
  before(async () => {
    world = await DriveWorld.start();
    router = world.addDriver('router-1');
    await world.announce([...LANE, SECOND, ...OTHER_STORE]);
  });
  after(async () => {
    await world.stop();
  });
  beforeEach(async () => {
    for (const workerId of ['worker-1', 'worker-2', 'worker-3']) {
      const worker = world.worker(workerId);
      worker.gate = async () => Promise.resolve();
      for (const list of [worker.jobs, worker.reuses, worker.releases]) list.length = 0;
    }
    await world.announce(LANE);
  });

  /** Worker-1 fails the job at `beginToken` with `error`, `times` times. */
  function failAt(beginToken: number, error: ServingError, times = 1): void {
    let left = times;
    world.worker().gate = async (job) => {
      if (job.beginToken !== beginToken || left === 0) return Promise.resolve();
      left -= 1;
      return Promise.reject(error);
    };
  }

  function ran(workerId: string, sessionId: string, epoch: number): (readonly [number, number])[] {
    return world
      .worker(workerId)
      .jobs.filter((job) => job.sessionId === sessionId && job.epoch === epoch)
      .filter((job) => job.kind === 'prefill')
      .map(({ beginToken, endToken }) => [beginToken, endToken] as const);
  }

  async function codesTold(sessionId: string): Promise<ErrorCode[]> {
    const events = await world.events(sessionId);
    return events.flatMap(({ event }) => (event.type === 'interrupted' ? [event.code] : []));
  }

  test('goes on with another one of its store, over links of what was finished', async () => {
    const run = await startAndLose(async () => world.announce([...LANE, SECOND]));
    const { sessionId } = run;
    assert.deepEqual((await world.answer(sessionId)).ids, [10, 11, 3]);
    assert.deepEqual(ran('worker-1', sessionId, 1), CHUNKS.slice(0, 3));
    assert.deepEqual(world.worker('worker-2').reuses, [
      {
        ...{ sessionId, epoch: 2, sourceSessionId: sessionId, sourceEpoch: 1 },
        ...{ beginToken: 0, endToken: 4_096 },
      },
    ]);
    assert.deepEqual(ran('worker-2', sessionId, 2), CHUNKS.slice(2));
    const [start] = world.decode().starts.slice(-1);
    assert.equal(start?.epoch, 2);
    assert.equal(start.workerAddress, 'worker-2');
    assert.deepEqual(start.context.workerIds, ['worker-2']);
    assert.equal(start.context.segmentBytes, 5_000_000);
    assert.deepEqual(await codesTold(sessionId), ['WORKER_LOST']);
    assert.deepEqual(world.worker('worker-1').releases.at(0), { sessionId, epoch: 1 });
  });

  test('names in its record whose fingerprint the linked segments carry', async () => {
    const seal = closedGate();
    world.worker('worker-2').gate = async ({ kind }) =>
      kind === 'seal' ? seal.passed() : Promise.resolve();
    const { sessionId, record } = await startAndLose(async () => world.announce([...LANE, SECOND]));
    const moved = await world.record(sessionId, ({ state }) => state === 'sealing');
    assert.notEqual(moved.fingerprint, record.fingerprint);
    assert.deepEqual(moved.origins, [
      { beginToken: 0, endToken: 4_096, fingerprint: record.fingerprint },
    ]);
    assert.deepEqual(
      moved.segments.map(({ beginToken, endToken }) => [beginToken, endToken]),
      CHUNKS,
    );
    seal.open();
    await world.answer(sessionId);
  });

  test('does not go back to one that nobody reaches while its heartbeat lasts', async () => {
    world.decode().startGate = async () => {
      world.decode().startGate = async () => Promise.resolve();
      await world.announce([...LANE, SECOND]);
      throw new ServingError('WORKER_LOST', 'connection refused');
    };
    const { sessionId } = await world.generate(router, PROMPT);
    await world.answer(sessionId);
    assert.deepEqual(ran('worker-1', sessionId, 2), []);
    assert.deepEqual(ran('worker-2', sessionId, 2), []);
    const [link] = world.worker('worker-2').reuses;
    assert.deepEqual([link?.sourceEpoch, link?.endToken], [1, PROMPT.length]);
    assert.equal(world.decode().starts.at(-1)?.workerAddress, 'worker-2');
  });

  test('runs all again in another store, and holds memory only there', async () => {
    const run = await startAndLose(async () => world.announce(OTHER_STORE));
    const { sessionId } = run;
    const moved = await world.record(sessionId, ({ epoch }) => epoch === 2);
    assert.equal(moved.reservation?.storeId, 'store-2');
    assert.equal(moved.decodeId, 'decode-3');
    await world.answer(sessionId);
    assert.deepEqual(ran('worker-3', sessionId, 2), CHUNKS);
    assert.deepEqual(world.worker('worker-3').reuses, []);
    assert.equal(world.decode('decode-3').starts.at(-1)?.sessionId, sessionId);
    await world.inState(sessionId, 'finished');
    for (const storeId of ['store-1', 'store-2']) {
      await world.nothingReserved(storeId);
    }
  });

  test('waits for a lane, its own worker in its next life too', async () => {
    const decodeOnly = [fakeMember('decode')];
    const run = await startAndLose(async () => world.announce(decodeOnly));
    const { sessionId } = run;
    await world.until(sessionId, ({ type }) => type === 'interrupted');
    await world.announce([fakeMember('worker', { startedUnixMs: 2 }), fakeMember('decode')]);
    assert.deepEqual((await world.answer(sessionId)).ids, [10, 11, 3]);
    assert.deepEqual(ran('worker-1', sessionId, 2), CHUNKS.slice(2));
  });

  test('does not try without a pause where each plan fails at its first chunk', async () => {
    const run = await world.generate(router, PROMPT);
    failAt(0, new ServingError('WORKER_LOST', 'its files are gone'), Infinity);
    const { sessionId } = run;
    await world.until(sessionId, ({ type }) => type === 'interrupted');
    await delay(1_200);
    assert.ok((await codesTold(sessionId)).length < 5);
    failAt(0, new ServingError('WORKER_LOST', 'its files are gone'), 0);
    await world.answer(sessionId);
  });

  test('ends with what it lost when no lane comes in time', async () => {
    const impatient = world.addDriver('router-impatient', 0);
    const held = holdAt(4_096);
    const run = await world.generate(impatient, PROMPT);
    await held.reached;
    await world.announce([fakeMember('decode')]);
    held.fail(new ServingError('WORKER_LOST', 'its host burned down'));
    await assert.rejects(world.answer(run.sessionId), {
      code: 'WORKER_LOST',
      message: 'its host burned down',
    });
    await world.inState(run.sessionId, 'failed');
  });

  test('leaves a draining worker, whose waiting jobs are taken back', async () => {
    const other = await world.generate(router, someIds(100));
    await world.answer(other.sessionId);
    const held = holdAt(2_048);
    const blocking = await world.generate(router, PROMPT);
    await held.reached;
    const waiting = await world.generate(router, someIds(600));
    await world.until(waiting.sessionId, ({ type }) => type === 'queued');
    await world.worker().drain();
    await world.announce([fakeMember('worker', { draining: true }), fakeMember('decode'), SECOND]);
    await world.answer(waiting.sessionId);
    assert.deepEqual(await codesTold(waiting.sessionId), ['WORKER_LOST']);
    assert.deepEqual(ran('worker-1', waiting.sessionId, 1), []);
    // The one that runs ends there; then the worker takes no next one.
    held.open();
    await world.answer(blocking.sessionId);
    assert.deepEqual(ran('worker-1', blocking.sessionId, 1).slice(0, 2), CHUNKS.slice(0, 2));
    assert.deepEqual(ran('worker-2', blocking.sessionId, 2), CHUNKS.slice(2));
    await world.worker().restart();
  });

  test('leaves a worker that refuses a job because it shuts down', async () => {
    const run = await startAndLose(
      async () => world.announce([...LANE, SECOND]),
      new ServingError('SHUTTING_DOWN', 'the worker is shutting down'),
    );
    await world.answer(run.sessionId);
    assert.deepEqual(await codesTold(run.sessionId), ['SHUTTING_DOWN']);
  });

  test('runs all again after bytes that did not match, and links none of them', async () => {
    failAt(4_096, new ServingError('DATA_LOSS', 'a page is damaged'));
    const { sessionId } = await world.generate(router, PROMPT);
    await world.answer(sessionId);
    assert.deepEqual(ran('worker-1', sessionId, 2), CHUNKS);
    assert.deepEqual(world.worker().reuses, []);
    assert.deepEqual(await codesTold(sessionId), ['DATA_LOSS']);
    assert.equal((await world.inState(sessionId, 'finished')).dataLosses, 1);
    assert.match(await router.metrics(), /longshadow_\w*replans\w*\{[^}]*DATA_LOSS[^}]*\} 1\b/);
  });

  test('ends with DATA_LOSS when bytes do not match a second time', async () => {
    failAt(4_096, new ServingError('DATA_LOSS', 'a page is damaged'), 2);
    const { sessionId } = await world.generate(router, PROMPT);
    await assert.rejects(world.answer(sessionId), { code: 'DATA_LOSS' });
    const record = await world.inState(sessionId, 'failed');
    assert.equal(record.dataLosses, 2);
    assert.equal(record.epoch, 2);
    await world.nothingReserved();
  });

  test('makes a damaged job again from the record, once, without another plan', async () => {
    failAt(2_048, new ServingError('JOB_CORRUPT', 'no JSON'));
    const { sessionId } = await world.generate(router, PROMPT);
    await world.answer(sessionId);
    const again = world.worker().jobs.filter(isAt(sessionId, 2_048));
    assert.equal(again.length, 2);
    assert.deepEqual(again[1], again[0]);
    assert.deepEqual(await codesTold(sessionId), []);
    assert.equal((await world.inState(sessionId, 'finished')).dataLosses, 0);
  });

  test('counts a job that is damaged twice as bytes that did not match', async () => {
    failAt(2_048, new ServingError('JOB_CORRUPT', 'no JSON'), 2);
    const { sessionId } = await world.generate(router, PROMPT);
    await world.answer(sessionId);
    const record = await world.inState(sessionId, 'finished');
    assert.equal(record.dataLosses, 1);
    assert.equal(record.epoch, 2);
    assert.deepEqual(await codesTold(sessionId), ['DATA_LOSS']);
  });

  test('loses nothing of an upload that is still open', async () => {
    const held = holdAt(2_048);
    const run = await world.open(router.driver);
    run.offer(Uint32Array.from(PROMPT.slice(0, 4_300)), 0);
    await held.reached;
    await world.announce([...LANE, SECOND]);
    await world.announce([fakeMember('decode'), SECOND]);
    held.fail(new ServingError('WORKER_LOST', 'gone'));
    const { sessionId } = run;
    await world.until(sessionId, ({ type }) => type === 'interrupted');
    run.offer(Uint32Array.from(PROMPT.slice(4_300)), 0);
    run.closeUpload();
    await world.answer(sessionId);
    assert.deepEqual(ran('worker-2', sessionId, 2), CHUNKS.slice(1));
    const ids = await world.store.tokenIds.get(sessionId, 0, PROMPT.length);
    assert.deepEqual([...ids], PROMPT);
  });

  function isAt(sessionId: string, beginToken: number): (job: PrefillJob) => boolean {
    return (job) => job.sessionId === sessionId && job.beginToken === beginToken;
  }

  /** Worker-1 holds the chunk at `beginToken` until it is let go, or made to fail. */
  function holdAt(beginToken: number) {
    const gate = closedGate();
    let reached: () => void = () => undefined;
    const isReached = new Promise<void>((resolve) => {
      reached = resolve;
    });
    let failure: ServingError | null = null;
    world.worker().gate = async (job) => {
      if (job.beginToken !== beginToken || job.kind !== 'prefill') return;
      reached();
      await gate.passed();
      const thrown = failure;
      failure = null;
      if (thrown !== null) throw thrown;
    };
    const fail = (error: ServingError): void => {
      failure = error;
      gate.open();
    };
    return { reached: isReached, open: gate.open, fail };
  }

  /** A session whose worker-1 fails at the third chunk, after the fleet has become another one. */
  async function startAndLose(
    becomes: () => Promise<void>,
    error = new ServingError('WORKER_LOST', 'its host burned down'),
  ) {
    const held = holdAt(4_096);
    const run = await world.generate(router, PROMPT);
    await held.reached;
    const { record, sessionId } = run;
    await becomes();
    if (error.code === 'SHUTTING_DOWN') {
      await world.announce([
        fakeMember('worker', { draining: true }),
        fakeMember('decode'),
        SECOND,
      ]);
    } else await withoutWorker();
    held.fail(error);
    return { sessionId, record };
  }

  /** Its heartbeat has run out. */
  async function withoutWorker(): Promise<void> {
    await world.store.fleet.withdraw('worker-1');
  }
});
