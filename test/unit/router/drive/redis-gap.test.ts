import assert from '../../../support/assert.js';
import { after, before, describe, test } from 'node:test';
import { status } from '@grpc/grpc-js';
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
