import assert from '../../../support/assert.js';
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';
import { ServingError } from '../../../../services/domain/serving-error.js';
import type { GenerationHeader } from '../../../../services/router/admission/generation-header.js';
import { DriveWorld, someIds, type WorldDriver } from './drive-world.js';
import { fakeMember } from './fake-members.js';

/** Cut at 2,048 and 4,096; the tail begins at 4,608. */
const PROMPT = someIds(5_000);

describe('a prompt that begins like a kept session', () => {
  let world: DriveWorld;
  let router: WorldDriver;
  let donor: string;
  before(async () => {
    world = await DriveWorld.start();
    router = world.addDriver('router-1');
  });
  after(async () => {
    await world.stop();
  });
  beforeEach(async () => {
    const { jobs, reuses } = world.worker();
    donor = await keep(PROMPT);
    for (const list of [jobs, reuses]) list.length = 0;
  });
  afterEach(async () => {
    await router.driver.release(donor);
    await world.nothingReserved();
  });

  /** A session that is kept and whose chunks are offered. */
  async function keep(ids: number[], header: Partial<GenerationHeader> = {}): Promise<string> {
    const { sessionId } = await world.keptSession(router, ids, header);
    const offers = async (): Promise<number> =>
      (await world.raw.keys('longshadow:*prefix*')).length;
    await world.record(sessionId, () => true);
    for (let tries = 0; tries < 500 && (await offers()) === 0; tries += 1) {
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
    assert.notEqual(await offers(), 0);
    return sessionId;
  }

  async function ran(
    ids: number[],
    header: Partial<GenerationHeader> = {},
  ): Promise<{ chunks: number[]; cached: number; sessionId: string }> {
    const { sessionId } = await world.generate(router, ids, header);
    await world.answer(sessionId);
    const jobs = world.worker().jobs.filter((job) => job.sessionId === sessionId);
    const chunks = jobs.filter(({ kind }) => kind === 'prefill').map((job) => job.beginToken);
    const cached = world.decode().starts.at(-1)?.context.cachedTokens ?? -1;
    await world.inState(sessionId, 'finished');
    return { chunks, cached, sessionId };
  }

  test('links the chunks that they share and runs the rest', async () => {
    const other = [...PROMPT.slice(0, 4_096), ...someIds(904, 2_000)];
    const { chunks, cached, sessionId } = await ran(other);
    assert.deepEqual(chunks, [4_096, 4_608]);
    assert.equal(cached, 4_096);
    assert.deepEqual(
      world
        .worker()
        .reuses.map(({ sourceSessionId, beginToken, endToken }) => [
          sourceSessionId,
          beginToken,
          endToken,
        ]),
      [
        [donor, 0, 2_048],
        [donor, 2_048, 4_096],
      ],
    );
    const events = (await world.events(sessionId)).map(({ event }) => event);
    const progress = events.flatMap((event) => (event.type === 'progress' ? [event] : []));
    assert.deepEqual(
      progress.map(({ processedTokens, cachedTokens }) => [processedTokens, cachedTokens]),
      [
        [2_048, 2_048],
        [4_096, 4_096],
      ],
    );
    const jobs = world.worker().jobs.filter((job) => job.sessionId === sessionId);
    assert.ok(jobs.every(({ cachedTokens }) => cachedTokens === 4_096));
    const ids = await world.store.tokenIds.get(sessionId, 0, other.length);
    assert.deepEqual([...ids], other);
  });

  test('never shares its tail, not even with its equal', async () => {
    const { chunks, cached } = await ran(PROMPT);
    assert.deepEqual(chunks, [4_096, 4_608]);
    assert.equal(cached, 4_096);
  });

  test('names whose fingerprint the linked chunks carry', async () => {
    const { fingerprint } = await world.record(donor);
    const twin = await keep(PROMPT);
    const record = await world.record(twin);
    assert.deepEqual(record.origins, [
      { beginToken: 0, endToken: 2_048, fingerprint },
      { beginToken: 2_048, endToken: 4_096, fingerprint },
    ]);
    // What was linked can be linked on, under the fingerprint of its maker.
    await router.driver.release(donor);
    const third = await keep(PROMPT);
    assert.equal((await world.record(third)).origins[0]?.fingerprint, fingerprint);
    await router.driver.release(twin);
    await router.driver.release(third);
  });

  test('is linked while its upload is still open', async () => {
    const run = await world.open(router.driver);
    run.offer(Uint32Array.from(PROMPT.slice(0, 2_500)), 0);
    await world.record(run.sessionId, ({ nextToken }) => nextToken === 2_048);
    assert.deepEqual(world.worker().jobs, []);
    run.offer(Uint32Array.from(PROMPT.slice(2_500)), 0);
    run.closeUpload();
    await world.answer(run.sessionId);
    assert.equal(world.decode().starts.at(-1)?.context.cachedTokens, 4_096);
  });

  const strangers: {
    name: string;
    ids?: number[];
    header?: Partial<GenerationHeader>;
  }[] = [
    { name: 'differs in its first token', ids: [999, ...PROMPT.slice(1)] },
    { name: 'is of another tenant', header: { tenant: 'other' } },
    {
      name: 'asks for log-probabilities of it',
      header: { promptLogprobs: [{ beginToken: 0, endToken: 10 }] },
    },
    { name: 'is shorter than its first chunk and the tail', ids: PROMPT.slice(0, 2_100) },
  ];
  for (const { name, ids = PROMPT, header = {} } of strangers) {
    test(`links nothing where it ${name}`, async () => {
      const { chunks, cached } = await ran(ids, header);
      assert.equal(chunks[0], 0);
      assert.equal(cached, 0);
      assert.deepEqual(world.worker().reuses, []);
    });
  }

  test('is run where its donor’s segments are gone', async () => {
    world.worker().valueStore.clear();
    const { chunks, cached } = await ran(PROMPT);
    assert.deepEqual(chunks, [0, 2_048, 4_096, 4_608]);
    assert.equal(cached, 0);
  });

  test('is run once its donor is released', async () => {
    await router.driver.release(donor);
    const { chunks } = await ran(PROMPT);
    assert.deepEqual(chunks, [0, 2_048, 4_096, 4_608]);
    assert.deepEqual(world.worker().reuses, []);
  });

  test('is linked no more once bytes of it did not match, while its donor stays', async () => {
    failOnce(4_096);
    const damaged = await ran(PROMPT);
    assert.deepEqual(damaged.chunks, [4_096, 0, 2_048, 4_096, 4_608]);
    assert.equal(world.worker().reuses.length, 2);
    const { chunks, cached } = await ran(PROMPT);
    assert.deepEqual(chunks, [0, 2_048, 4_096, 4_608]);
    assert.equal(cached, 0);
    assert.equal((await world.record(donor)).state, 'kept');
  });

  test('is linked after bytes of another session did not match', async () => {
    failOnce(2_048);
    await ran([999, ...PROMPT.slice(1)]);
    const { cached } = await ran(PROMPT);
    assert.equal(cached, 4_096);
  });

  /** The next job that begins there finds bytes that do not match. */
  function failOnce(beginToken: number): void {
    world.worker().gate = async (job) => {
      if (job.beginToken !== beginToken) return Promise.resolve();
      world.worker().gate = async () => Promise.resolve();
      return Promise.reject(new ServingError('DATA_LOSS', 'a page is damaged'));
    };
  }

  test('counts nothing as cached that it had to run after it lost its worker', async () => {
    const elsewhere = [
      fakeMember('worker', { memberId: 'worker-9', storeId: 'store-9' }),
      fakeMember('decode', { memberId: 'decode-9', storeId: 'store-9' }),
    ];
    world.worker().gate = async () => new Promise(() => undefined);
    const { sessionId } = await world.generate(router, PROMPT);
    await world.record(sessionId, ({ nextToken }) => nextToken === 4_096);
    await world.announce(elsewhere);
    await world.answer(sessionId);
    assert.equal(world.decode('decode-9').starts.at(-1)?.context.cachedTokens, 0);
    assert.equal((await world.record(sessionId)).turn.cachedTokens, 0);
    world.worker().gate = async () => Promise.resolve();
    await world.announce([fakeMember('worker'), fakeMember('decode')]);
  });
});
