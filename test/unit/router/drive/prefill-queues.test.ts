import assert from '../../../support/assert.js';
import { randomBytes } from 'node:crypto';
import { after, afterEach, before, describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { Worker } from 'bullmq';
import { Redis } from 'ioredis';
import {
  PREFILL_JOB_SCHEMA_VERSION,
  type PrefillJob,
  prefillJobId,
  workerQueueName,
} from '../../../../services/domain/prefill-job.js';
import { ServingError } from '../../../../services/domain/serving-error.js';
import { makeLog } from '../../../../services/platform/log.js';
import { redisOptions } from '../../../../services/platform/redis-url.js';
import {
  openSessionStore,
  type OpenSessionStore,
} from '../../../../services/platform/session-store/open-session-store.js';
import { chargedTokens, shareOf } from '../../../../services/router/admission/charged-tokens.js';
import {
  BullPrefillQueues,
  type RunJobOptions,
} from '../../../../services/router/drive/prefill-queues.js';
import { poll } from '../../../support/poll.js';
import { startRedis, type TestRedis } from '../../../support/redis-server.js';

const log = makeLog('test', 'silent');
/** A worker's lock, shorter than the real one of 6 s so that tests wait less. */
const LOCK_MS = 2_000;
const CHUNK_TOKENS = 4_096;

let redis: TestRedis;
let store: OpenSessionStore;
let queues: BullPrefillQueues;
let raw: Redis;
let workerId: string;
let consumer: Consumer | null = null;

before(async () => {
  redis = await startRedis();
  store = await openSessionStore(redis.url, log);
  queues = new BullPrefillQueues(redisOptions(redis.url), store.fairShares, log);
  raw = new Redis(redisOptions(redis.url));
});

after(async () => {
  raw.disconnect();
  await queues.close();
  await store.close();
  await redis.stop();
});

afterEach(async () => {
  await consumer?.close();
  consumer = null;
});

/** A worker's side of a queue: notes what starts, and ends each job as its gate says. */
class Consumer {
  readonly started: string[] = [];
  readonly #worker: Worker<PrefillJob>;

  constructor(gate: (job: PrefillJob) => Promise<void> = async () => Promise.resolve()) {
    this.#worker = new Worker<PrefillJob>(
      workerQueueName(workerId),
      async ({ data, priority }) => {
        this.started.push(data.sessionId);
        await store.fairShares.started(workerId, priority);
        await gate(data);
        const { beginToken, endToken } = data;
        return {
          beginToken,
          endToken,
          bytes: 1,
          engineMicros: 1,
          sparse: null,
          alreadyDone: false,
          sealed: false,
        };
      },
      { connection: redisOptions(redis.url), lockDuration: LOCK_MS, stalledInterval: 500 },
    );
    this.#worker.on('error', () => undefined);
  }

  async close(): Promise<void> {
    await this.#worker.close(true);
  }
}

/** Promises that a test opens. */
function makeGate(): { readonly opened: Promise<void>; open(): void } {
  let open = (): void => undefined;
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { opened, open };
}

function makeJob(sessionId = randomBytes(16).toString('hex')): PrefillJob {
  return {
    schemaVersion: PREFILL_JOB_SCHEMA_VERSION,
    kind: 'prefill',
    sessionId,
    epoch: 1,
    stage: 0,
    modelFingerprint: 'a'.repeat(32),
    fingerprint: 'b'.repeat(32),
    beginToken: 0,
    endToken: CHUNK_TOKENS,
    nextTokenId: null,
    promptLogprobs: [],
    cachedTokens: 0,
    totalTokens: CHUNK_TOKENS,
    deadlineUnixMs: null,
    traceparent: null,
  };
}

function options(change: Partial<RunJobOptions> = {}): RunJobOptions {
  return {
    signal: new AbortController().signal,
    share: '',
    chargedTokens: CHUNK_TOKENS,
    isWorkerAlive: async () => Promise.resolve(true),
    onQueued: async () => Promise.resolve(),
    ...change,
  };
}

function newWorkerId(): void {
  workerId = `worker-${randomBytes(4).toString('hex')}`;
}

function jobKey(job: PrefillJob): string {
  return `bull:${workerQueueName(workerId)}:${prefillJobId(job)}`;
}

async function isGone(job: PrefillJob): Promise<boolean> {
  return (await raw.exists(jobKey(job))) === 0;
}

async function untilAdded(jobs: number): Promise<void> {
  await poll(
    async () => queues.depth(workerId),
    (depth) => depth === jobs,
    5_000,
  );
}

async function untilOneRuns(): Promise<void> {
  await poll(
    () => consumer?.started.length,
    (started) => started === 1,
    5_000,
  );
}

function failsWith(code: string) {
  return (error: unknown): boolean => error instanceof ServingError && error.code === code;
}

describe('the order of a worker’s queue', () => {
  const runAll = async (
    jobs: readonly { readonly name: string; readonly change: Partial<RunJobOptions> }[],
  ): Promise<string[]> => {
    newWorkerId();
    const gate = makeGate();
    consumer = new Consumer(async () => gate.opened);
    const names = new Map<string, string>();
    const runs: Promise<unknown>[] = [];
    for (const { name, change } of jobs) {
      const job = makeJob();
      names.set(job.sessionId, name);
      runs.push(queues.run(workerId, job, options(change)));
      await untilAdded(runs.length);
      if (runs.length === 1) await untilOneRuns();
    }
    gate.open();
    await Promise.all(runs);
    return consumer.started.map((sessionId) => names.get(sessionId) ?? '');
  };

  test('is first come, first served within a tenant', async () => {
    const jobs = ['a', 'b', 'c', 'd', 'e'].map((name) => ({ name, change: {} }));
    assert.deepEqual(await runAll(jobs), ['a', 'b', 'c', 'd', 'e']);
  });

  test('lets a tenant with one session go before the second of another', async () => {
    const jobs = [
      ...['a1', 'a2', 'a3', 'a4'].map((name) => ({
        name,
        change: { share: shareOf({ tenant: 'a', priority: 'normal' }) },
      })),
      { name: 'b1', change: { share: shareOf({ tenant: 'b', priority: 'normal' }) } },
      { name: 'b2', change: { share: shareOf({ tenant: 'b', priority: 'normal' }) } },
    ];
    assert.deepEqual(await runAll(jobs), ['a1', 'b1', 'a2', 'b2', 'a3', 'a4']);
  });

  test('serves a tenant’s prompts of high priority sixteen times as much as its low ones', async () => {
    const job = makeJob();
    const low = {
      share: shareOf({ tenant: '', priority: 'low' }),
      chargedTokens: chargedTokens(job, 'low'),
    };
    const high = {
      share: shareOf({ tenant: '', priority: 'high' }),
      chargedTokens: chargedTokens(job, 'high'),
    };
    const jobs = [
      { name: 'first', change: { share: 'first' } },
      ...Array.from({ length: 2 }, () => ({ name: 'low', change: low })),
      ...Array.from({ length: 17 }, () => ({ name: 'high', change: high })),
    ];
    const order = await runAll(jobs);
    assert.equal(order[1], 'low');
    const betweenLows = order.lastIndexOf('low') - 2;
    // A step of the queue's order is 2,048 tokens, two jobs of the high one.
    assert.ok(betweenLows >= 15 && betweenLows <= 17, order.join(' '));
  });

  test('lets a seal wait for nobody’s share', async () => {
    const jobs = [
      ...['a1', 'a2', 'a3'].map((name) => ({
        name,
        change: { share: shareOf({ tenant: 'a', priority: 'normal' }) },
      })),
      {
        name: 'seal',
        change: { share: shareOf({ tenant: 'a', priority: 'normal' }), chargedTokens: 0 },
      },
    ];
    assert.deepEqual((await runAll(jobs)).slice(0, 2), ['a1', 'seal']);
  });
});

describe('a job on its worker’s queue', () => {
  test('is told how many are there already', async () => {
    newWorkerId();
    const ahead: number[] = [];
    const onQueued = async (jobs: number): Promise<void> => Promise.resolve(void ahead.push(jobs));
    const runs = [];
    for (let count = 1; count <= 3; count += 1) {
      runs.push(queues.run(workerId, makeJob(), options({ onQueued })));
      await untilAdded(count);
    }
    consumer = new Consumer();
    await Promise.all(runs);
    assert.deepEqual(ahead, [1, 2]);
    assert.equal(await queues.depth(workerId), 0);
  });

  test('whose session ends while others are ahead says so once, to its driver', async () => {
    newWorkerId();
    const gate = makeGate();
    consumer = new Consumer(async () => gate.opened);
    const first = queues.run(workerId, makeJob(), options());
    await untilOneRuns();
    const end = new AbortController();
    const onQueued = async (): Promise<void> => {
      end.abort(new ServingError('CANCELLED', 'the client is gone'));
      await delay(20); // a rejection that nobody handles would end the process
      end.signal.throwIfAborted();
    };
    const run = queues.run(workerId, makeJob(), options({ signal: end.signal, onQueued }));
    await assert.rejects(run, failsWith('CANCELLED'));
    gate.open();
    await first;
  });

  test('whose payload is no JSON comes back as JOB_CORRUPT and can be added again', async () => {
    newWorkerId();
    const job = makeJob();
    const run = queues.run(workerId, job, options());
    await untilAdded(1);
    await raw.hset(jobKey(job), 'data', '{"schemaVersion":3,"ki');
    await assert.rejects(run, failsWith('JOB_CORRUPT'));
    assert.ok(await isGone(job));
    consumer = new Consumer();
    assert.equal((await queues.run(workerId, job, options())).endToken, CHUNK_TOKENS);
  });

  test('whose payload is no JSON comes back when the lock of a worker that took it runs out', async () => {
    newWorkerId();
    const job = makeJob();
    const run = queues.run(workerId, job, options());
    await untilAdded(1);
    await raw.hset(jobKey(job), 'data', 'x');
    const dead = new Worker(workerQueueName(workerId), null, {
      connection: redisOptions(redis.url),
      lockDuration: LOCK_MS,
    });
    const startedMs = performance.now();
    await assert.rejects(dead.getNextJob('lock'), SyntaxError);
    await assert.rejects(run, failsWith('JOB_CORRUPT'));
    assert.ok(performance.now() - startedMs < LOCK_MS + 1_000);
    assert.ok(await isGone(job));
    await dead.close(true);
  });

  test('that was damaged after its worker read it ends well', async () => {
    newWorkerId();
    const gate = makeGate();
    consumer = new Consumer(async () => gate.opened);
    const job = makeJob();
    const run = queues.run(workerId, job, options());
    await untilOneRuns();
    await raw.hset(jobKey(job), 'data', 'x');
    await delay(LOCK_MS + 1_500);
    gate.open();
    assert.equal((await run).endToken, CHUNK_TOKENS);
  });

  test('that its worker refuses as damaged is gone when the driver hears of it', async () => {
    newWorkerId();
    const failure = JSON.stringify({ code: 'JOB_CORRUPT', message: 'damaged', details: {} });
    consumer = new Consumer(async () => Promise.reject(new Error(failure)));
    const job = makeJob();
    await assert.rejects(queues.run(workerId, job, options()), failsWith('JOB_CORRUPT'));
    assert.ok(await isGone(job));
  });

  test('is taken back from a worker that leaves, unless it runs there', async () => {
    newWorkerId();
    const gate = makeGate();
    consumer = new Consumer(async () => gate.opened);
    const leaving = options({ isWorkerTaking: async () => Promise.resolve(false) });
    const [running, waiting] = [makeJob(), makeJob()];
    const runs = [queues.run(workerId, running, leaving)];
    await untilOneRuns();
    runs.push(queues.run(workerId, waiting, leaving));
    const startedMs = performance.now();
    await assert.rejects(runs[1] ?? Promise.resolve(), failsWith('WORKER_LOST'));
    assert.ok(performance.now() - startedMs < 2_500);
    assert.ok(await isGone(waiting));
    gate.open();
    assert.equal((await runs[0])?.endToken, CHUNK_TOKENS);
    assert.deepEqual(consumer.started, [running.sessionId]);
  });

  test('is taken back from a worker that is gone', async () => {
    newWorkerId();
    const job = makeJob();
    const isWorkerAlive = async (): Promise<boolean> => Promise.resolve(false);
    await assert.rejects(
      queues.run(workerId, job, options({ isWorkerAlive })),
      failsWith('WORKER_LOST'),
    );
    assert.ok(await isGone(job));
  });

  test('that Redis has lost is added again', async () => {
    newWorkerId();
    const job = makeJob();
    const run = queues.run(workerId, job, options());
    await untilAdded(1);
    await raw.flushall();
    await untilAdded(1);
    consumer = new Consumer();
    assert.equal((await run).endToken, CHUNK_TOKENS);
  });

  test('that Redis has lost with its session is added no more once the session ends', async () => {
    newWorkerId();
    const end = new AbortController();
    const job = makeJob();
    const run = queues.run(workerId, job, options({ signal: end.signal }));
    await untilAdded(1);
    await raw.flushall();
    await delay(500);
    end.abort(new ServingError('SESSION_LOST', 'Redis has lost the session'));
    await assert.rejects(run, failsWith('SESSION_LOST'));
    await delay(3_000); // two looks agree after 2 s
    assert.equal(await queues.depth(workerId), 0);
  });
});

test('a job is removed as soon as the lock of the worker that died with it has run out', async () => {
  newWorkerId();
  const end = new AbortController();
  const job = makeJob();
  const run = queues.run(workerId, job, options({ signal: end.signal }));
  await untilAdded(1);
  const dead = new Worker(workerQueueName(workerId), null, {
    connection: redisOptions(redis.url),
    lockDuration: LOCK_MS,
  });
  const taken = await dead.getNextJob('lock');
  assert.equal(taken.id, prefillJobId(job));
  assert.equal(await queues.remove(workerId, prefillJobId(job)), false);
  assert.equal(await queues.remove(workerId, prefillJobId(job), LOCK_MS + 1_000), true);
  assert.ok(await isGone(job));
  assert.equal(await queues.remove(workerId, prefillJobId(job)), true);
  end.abort(new ServingError('CANCELLED', 'the test is over'));
  await assert.rejects(run, failsWith('CANCELLED'));
  await dead.close(true);
});
