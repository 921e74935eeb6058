import assert from '../../../support/assert.js';
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';
import type { PrefillJob } from '../../../../services/domain/prefill-job.js';
import { ServingError } from '../../../../services/domain/serving-error.js';
import type { SparseWork } from '../../../../services/domain/sparse-work.js';
import { byPattern } from '../../../support/sparse-fixture.js';
import { closedGate, DriveWorld, someIds, type WorldDriver } from './drive-world.js';
import { fakeMember } from './fake-members.js';

const PROMPT = someIds(5_000);
const LANE = [fakeMember('worker'), fakeMember('decode')];
const SECOND = fakeMember('worker', { memberId: 'worker-2' });

/** Of a chunk: dense before token 2,048, then half of the keys. */
function workOf({ kind, beginToken, endToken }: PrefillJob): SparseWork | null {
  if (kind === 'seal') return null;
  const tokens = endToken - beginToken;
  const isSparse = beginToken >= 2_048;
  const keys = isSparse ? tokens : 0;
  return {
    sparseTokens: isSparse ? tokens : 0,
    denseTokens: isSparse ? 0 : tokens,
    attendedKeys: byPattern({ dense: tokens - keys, 'key-bounds': keys }),
    causalKeys: byPattern({ dense: tokens - keys, 'key-bounds': 2 * keys }),
    layerAttendedKeys: [tokens - keys, keys],
    layerCausalKeys: [tokens - keys, 2 * keys],
    ...{ estimateMicros: 10, indexMicros: 1, attentionMicros: 100 },
    ...{ guardBlocks: 1, guardErrorSum: 0.25, guardErrorMax: beginToken / 10_000 },
  };
}

/** All chunks of the prompt, each once. */
const WHOLE: SparseWork = {
  ...{ sparseTokens: 2_952, denseTokens: 2_048 },
  attendedKeys: byPattern({ dense: 2_048, 'key-bounds': 2_952 }),
  causalKeys: byPattern({ dense: 2_048, 'key-bounds': 5_904 }),
  ...{ layerAttendedKeys: [2_048, 2_952], layerCausalKeys: [2_048, 5_904] },
  ...{ estimateMicros: 40, indexMicros: 4, attentionMicros: 400 },
  ...{ guardBlocks: 4, guardErrorSum: 1, guardErrorMax: 0.4608 },
};

describe('what chunks of a sparse session did', () => {
  let world: DriveWorld;
  let router: WorldDriver;
  let others: WorldDriver[] = [];
  let routers = 0;
  before(async () => {
    world = await DriveWorld.start();
    await world.announce([...LANE, SECOND]);
  });
  after(async () => {
    await world.stop();
  });
  beforeEach(async () => {
    for (const workerId of ['worker-1', 'worker-2']) {
      const worker = world.worker(workerId);
      worker.gate = async () => Promise.resolve();
      worker.sparseWork = workOf;
    }
    world.decode().starts.length = 0;
    await world.announce(LANE);
    routers += 1;
    router = world.addDriver(`router-${String(routers)}`);
    others = [];
  });
  afterEach(async () => {
    for (const driver of [router, ...others]) await driver.stop();
  });

  const told = (): SparseWork | null | undefined =>
    world.decode().starts.at(-1)?.context.sparseWork;

  test('adds up for the final report', async () => {
    const { sessionId } = await world.generate(router, PROMPT);
    await world.answer(sessionId);
    assert.deepEqual(told(), WHOLE);
  });

  test('is nothing where chunks are dense', async () => {
    world.worker().sparseWork = () => null;
    const { sessionId } = await world.generate(router, PROMPT);
    await world.answer(sessionId);
    assert.equal(told(), null);
  });

  test('is told in full by a router that takes the session over', async () => {
    const gate = closedGate();
    world.worker().gate = async ({ beginToken }) =>
      beginToken === 4_096 ? gate.passed() : Promise.resolve();
    const { sessionId } = await world.generate(router, PROMPT);
    await world.record(sessionId, (record) => record.nextToken === 4_096 && record.uploadClosed);
    router.kill();
    gate.open(); // the result goes to nobody: the next router asks for the chunk again
    await world.endLease(sessionId);
    others.push(world.addDriver(`router-${String(routers)}-b`));
    await world.answer(sessionId);
    assert.deepEqual(told(), WHOLE);
  });

  test('counts once where another worker goes on over links', async () => {
    failOnce(4_096, new ServingError('WORKER_LOST', 'its host burned down'));
    const run = world.generate(router, PROMPT);
    await world.announce([SECOND, ...LANE]);
    const { sessionId } = await run;
    await world.answer(sessionId);
    assert.deepEqual(told(), WHOLE);
  });

  test('counts once where a damaged session runs all again', async () => {
    failOnce(4_096, new ServingError('DATA_LOSS', 'a page is damaged'));
    const { sessionId } = await world.generate(router, PROMPT);
    await world.answer(sessionId);
    assert.deepEqual(told(), WHOLE);
  });

  test('of a later turn is only what that turn ran', async () => {
    const { sessionId, lastSequence } = await world.keptSession(router, PROMPT);
    assert.deepEqual(told(), WHOLE);
    await world.nextTurn(router, sessionId, someIds(4_200));
    await world.answer(sessionId, lastSequence);
    const context = world.decode().starts.at(-1)?.context;
    const work = told();
    assert.equal(context?.cachedTokens, 4_608);
    assert.equal(work?.denseTokens, 0);
    assert.equal(work.sparseTokens, context.promptTokens - 4_608);
  });

  function failOnce(beginToken: number, error: ServingError): void {
    let left = 1;
    for (const workerId of ['worker-1', 'worker-2']) {
      world.worker(workerId).gate = async (job) => {
        if (job.beginToken !== beginToken || left === 0) return Promise.resolve();
        left -= 1;
        return Promise.reject(error);
      };
    }
  }
});
