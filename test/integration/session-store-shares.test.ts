import assert from '../support/assert.js';
import { after, before, test } from 'node:test';
import { Redis } from 'ioredis';
import { makeLog } from '../../services/platform/log.js';
import { redisOptions } from '../../services/platform/redis-url.js';
import {
  openSessionStore,
  type OpenSessionStore,
} from '../../services/platform/session-store/open-session-store.js';
import { startRedis, type TestRedis } from '../support/redis-server.js';

let server: TestRedis;
let store: OpenSessionStore;
let redis: Redis;

before(async () => {
  server = await startRedis();
  store = await openSessionStore(server.url, makeLog('test', 'silent'));
  redis = new Redis(redisOptions(server.url));
});

after(async () => {
  await store.close();
  redis.disconnect();
  await server.stop();
});

const STEP = 2_048;
const LOWEST = 2_097_151;
let workers = 0;

/** A worker that nobody has used. */
function newWorker() {
  workers += 1;
  const workerId = `worker-${String(workers)}`;
  return {
    workerId,
    key: `longshadow:shares:${workerId}`,
    next: async (tenant: string, tokens: number, queueIsIdle = false) =>
      store.fairShares.nextPriority(workerId, tenant, tokens, queueIsIdle),
    started: async (priority: number) => store.fairShares.started(workerId, priority),
  };
}

test("a tenant's jobs queue up behind one another, another tenant's begin beside them", async () => {
  const { next } = newWorker();
  const a = [await next('a', STEP), await next('a', STEP), await next('a', STEP)];
  assert.deepEqual(a, [1, 2, 3]);
  assert.deepEqual([await next('b', STEP), await next('b', STEP)], [1, 2]);
  assert.equal(await next('a', 1), 4);
});

test('short jobs share a step: tokens count, not jobs', async () => {
  const { next } = newWorker();
  const priorities = [];
  for (let n = 0; n < 9; n += 1) priorities.push(await next('a', 512));
  assert.deepEqual(priorities, [1, 1, 1, 1, 2, 2, 2, 2, 3]);
});

test('who comes later begins where the worker is now, not at the start', async () => {
  const { next, started } = newWorker();
  for (let n = 0; n < 10; n += 1) await next('a', STEP);
  await started(8);
  assert.equal(await next('b', STEP), 8, 'no credit for the time in which b asked for nothing');
  assert.equal(await next('a', STEP), 11, 'what a queued still counts');
  await started(3);
  assert.equal(await next('c', STEP), 8, 'time does not go back');
});

test('a seal begins now and costs nothing', async () => {
  const { next, started } = newWorker();
  for (let n = 0; n < 5; n += 1) await next('a', STEP);
  await started(3);
  assert.equal(await next('a', 0), 3);
  assert.equal(await next('a', 0), 3);
  assert.equal(await next('a', STEP), 6, 'its next chunk is where it was');
});

test('an idle queue begins anew', async () => {
  const { next, started } = newWorker();
  for (let n = 0; n < 50; n += 1) await next('a', STEP);
  await started(50);
  assert.equal(await next('a', STEP, true), 1);
  assert.equal(await next('b', STEP), 1);
  assert.equal(await next('a', STEP), 2);
});

test("one worker's shares do not count at another", async () => {
  const [one, two] = [newWorker(), newWorker()];
  for (let n = 0; n < 5; n += 1) await one.next('a', STEP);
  assert.equal(await two.next('a', STEP), 1);
});

test('priorities end at the lowest that the queue knows, and come back from it when idle', async () => {
  const { next, started } = newWorker();
  await next('a', STEP * 3_000_000);
  assert.equal(await next('a', STEP), LOWEST);
  await started(LOWEST);
  assert.equal(await next('a', STEP), LOWEST);
  assert.equal(await next('b', 1), LOWEST);
  assert.equal(await next('a', 1, true), 1);
});

test('tenants that owe nothing are forgotten, and all of them after an hour', async () => {
  const { key, next, started } = newWorker();
  for (let n = 0; n < 100; n += 1) await next(`tenant ${String(n)}`, STEP);
  await next('busy', 10 * STEP);
  assert.equal(await redis.hlen(key), 102);
  await started(3);
  assert.equal(await redis.hlen(key), 2, 'v and the busy one');
  const left = await redis.pttl(key);
  assert.ok(left > 3_590_000 && left <= 3_600_000, `lives ${String(left)} ms`);
  assert.equal(await next('busy', 1), 11);
});

test("a tenant's name may be any text and reaches no key", async () => {
  const { key, next } = newWorker();
  const names = ['', 'v', 'a'.repeat(100_000), 'tenant:*', '\n\u0000é', 'constructor'];
  for (const tenant of names) assert.equal(await next(tenant, STEP), 1, tenant.slice(0, 20));
  for (const tenant of names) assert.equal(await next(tenant, STEP), 2, tenant.slice(0, 20));
  for (const field of await redis.hkeys(key)) assert.match(field, /^(v|tenant:[0-9a-f]{32})$/);
});

test('charges may be fractions of tokens, but not less than nothing', async () => {
  const { next, workerId } = newWorker();
  assert.equal(await next('a', STEP - 0.5), 1);
  assert.equal(await next('a', 0.25), 2, 'rounded up, so that nothing is free');
  const refused = { name: 'ServingError', code: 'BAD_REQUEST' };
  for (const tokens of [-1, Number.NaN, Infinity]) await assert.rejects(next('a', tokens), refused);
  await assert.rejects(store.fairShares.nextPriority('a:b', '', 1, false), refused);
  for (const priority of [0, 1.5, LOWEST + 1, Number.NaN]) {
    await assert.rejects(store.fairShares.started(workerId, priority), refused);
  }
});

/** Serves jobs as the queue does: the smallest priority first, and of equals the first. */
interface Job {
  readonly tenant: string;
  readonly tokens: number;
  readonly priority: number;
}
function takeNext(queue: Job[]): Job {
  const [best] = queue.toSorted((a, b) => a.priority - b.priority);
  assert.ok(best);
  queue.splice(queue.indexOf(best), 1);
  return best;
}

test('three tenants with very different jobs get the same tokens, within a few chunks', async () => {
  const { next, started } = newWorker();
  const sizes: Record<string, number> = { long: 4_096, middle: 1_024, short: 500 };
  const served: Record<string, number> = { long: 0, middle: 0, short: 0 };
  const queue: Job[] = [];
  const ask = async (tenant: string) => {
    const tokens = sizes[tenant] ?? 0;
    queue.push({ tenant, tokens, priority: await next(tenant, tokens, queue.length === 0) });
  };
  for (const tenant of Object.keys(sizes)) for (let n = 0; n < 8; n += 1) await ask(tenant);
  for (let total = 0; total < 300_000;) {
    const job = takeNext(queue);
    await started(job.priority);
    served[job.tenant] = (served[job.tenant] ?? 0) + job.tokens;
    total += job.tokens;
    await ask(job.tenant);
  }
  const tokens = Object.values(served);
  assert.ok(
    Math.max(...tokens) - Math.min(...tokens) <= 3 * 4_096,
    `served: ${JSON.stringify(served)}`,
  );
});

test('twenty short prompts pass a long one of the same tenant after its running chunk', async () => {
  const { next, started } = newWorker();
  await started(await next('a', 2_048, true)); // a chunk of the long prompt runs
  const shorts: Job[] = [];
  for (let n = 0; n < 20; n += 1) {
    shorts.push({ tenant: 'short', tokens: 500, priority: await next('a', 500) });
  }
  const rest: Job = { tenant: 'long', tokens: 2_048, priority: await next('a', 2_048) };
  const queue = [...shorts, rest];
  const order = Array.from({ length: 21 }, () => takeNext(queue).tenant);
  assert.equal(order.at(-1), 'long');
});
