import assert from '../../../support/assert.js';
import { getEventListeners } from 'node:events';
import { after, before, describe, test } from 'node:test';
import { status } from '@grpc/grpc-js';
import { retryWhileRedisIsAway } from '../../../../services/router/drive/redis-gap.js';
import { ServingError } from '../../../../services/domain/serving-error.js';
import { DriveWorld, someIds } from './drive-world.js';
import { eventually, generate, type RouterWorld, startRouterWorld } from './router-world.js';

const ids = (count: number): number[] => Array.from({ length: count }, (_, i) => (i % 4_000) + 4);
const forever = async (): Promise<void> => new Promise(() => undefined);
const pause = async (ms: number): Promise<void> =>
  new Promise((resolve) => setTimeout(resolve, ms));

/** Redis stands still for longer than a command may take (3 s). */
describe('while Redis is away', () => {
  let world: RouterWorld;
  before(async () => {
    world = await startRouterWorld();
  });
  after(async () => {
    world.redis.resume();
    await world.stop();
  });

  test('a cancel frees memory and ends the call; the record and the reservation follow', async () => {
    world.worker.gate = forever;
    const call = generate(world, { maxNewTokens: 16, deadlineMs: 700 });
    call.send({ tokenIds: { ids: ids(100) } });
    call.close();
    await eventually('a chunk runs', () => world.worker.jobs.length === 1);
    const sessionId = world.worker.jobs[0]?.sessionId ?? '';
    world.redis.suspend();
    const error = await call.ended;
    assert.equal(error?.code, status.DEADLINE_EXCEEDED);
    assert.ok(world.worker.releases.some((release) => release.sessionId === sessionId));
    await pause(3_500); // every command that was sent has failed
    world.redis.resume();
    await eventually('the session is left', () => world.driver.find(sessionId) === null);
    assert.equal((await world.store.records.load(sessionId))?.state, 'cancelled');
    assert.equal(await world.store.reservations.reservedBytes('store-1'), 0);
    const last = (await world.store.events.read(sessionId, 0, 100)).at(-1)?.event;
    assert.equal(last?.type === 'error' && last.code, 'DEADLINE_EXCEEDED');
  });

  test('a prompt waits and goes on', async () => {
    let open: () => void = () => undefined;
    world.worker.gate = async () =>
      new Promise((resolve) => {
        open = resolve;
      });
    const call = generate(world, { maxNewTokens: 16 });
    call.send({ tokenIds: { ids: ids(3_000) } });
    await eventually('a chunk runs', () => world.worker.jobs.length === 2);
    world.redis.suspend();
    call.close();
    await pause(3_500);
    world.worker.gate = async () => Promise.resolve();
    open();
    world.redis.resume();
    assert.equal(await call.ended, null);
  });

  test('the router shuts down', async () => {
    world.worker.gate = forever;
    const call = generate(world, { maxNewTokens: 16 });
    call.send({ tokenIds: { ids: ids(100) } });
    call.close();
    const jobs = world.worker.jobs.length;
    await eventually('a chunk runs', () => world.worker.jobs.length > jobs);
    world.redis.suspend();
    const startedMs = performance.now();
    await world.driver.shutDown(0);
    assert.ok(performance.now() - startedMs < 6_000);
    assert.equal((await call.ended)?.code, status.UNAVAILABLE);
  });
});

describe('sessions that end at once', () => {
  test('give no warning of too many listeners', async () => {
    const world = await DriveWorld.start();
    const warnings: string[] = [];
    const onWarning = ({ name }: Error): void => {
      warnings.push(name);
    };
    process.on('warning', onWarning);
    try {
      const router = world.addDriver('router-1');
      const kept = await Promise.all(
        Array.from({ length: 24 }, async (_, i) => world.keptSession(router, someIds(200, i))),
      );
      await Promise.all(kept.map(async ({ sessionId }) => router.driver.release(sessionId)));
      await world.nothingReserved();
      await new Promise((resolve) => setImmediate(resolve));
      assert.deepEqual(warnings, []);
    } finally {
      process.off('warning', onWarning);
      await world.stop();
    }
  });

  test('leave no listener behind, whether a step ends well, badly or by the signal', async () => {
    const { signal } = new AbortController();
    const aborter = new AbortController();
    let tries = 0;
    const away = async (): Promise<number> => {
      tries += 1;
      if (tries === 2) return Promise.resolve(tries);
      return Promise.reject(new ServingError('REDIS_UNAVAILABLE', 'Redis is away'));
    };
    assert.equal(await retryWhileRedisIsAway(signal, away), 2);
    const fails = async (): Promise<never> => Promise.reject(new Error('fails'));
    await assert.rejects(retryWhileRedisIsAway(signal, fails), /fails/);
    const waits = retryWhileRedisIsAway(aborter.signal, forever);
    aborter.abort(new Error('stopped'));
    await assert.rejects(waits, /stopped/);
    for (const each of [signal, aborter.signal]) {
      assert.equal(getEventListeners(each, 'abort').length, 0);
    }
  });
});
