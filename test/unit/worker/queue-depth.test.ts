import assert from '../../support/assert.js';
import { Queue } from 'bullmq';
import { test } from 'node:test';
import { workerQueueName } from '../../../services/domain/prefill-job.js';
import { redisOptions } from '../../../services/platform/redis-url.js';
import { watchQueueDepth } from '../../../services/worker/prefill/queue-depth.js';
import { poll } from '../../support/poll.js';
import { startRedis } from '../../support/redis-server.js';

test('jobs with and without a priority are counted, again and again', async () => {
  const redis = await startRedis();
  const queue = new Queue(workerQueueName('worker-1'), { connection: redisOptions(redis.url) });
  const depths: number[] = [];
  await queue.add('prefill', {}, { priority: 7 });
  await queue.add('prefill', {}, { priority: 2 });
  await queue.add('seal', {});
  const watch = watchQueueDepth(redis.url, 'worker-1', (jobs) => depths.push(jobs));
  try {
    await poll(
      () => depths.at(-1),
      (depth) => depth === 3,
      2_000,
    );
    await queue.drain();
    await poll(
      () => depths.at(-1),
      (depth) => depth === 0,
      5_000,
    );
    assert.deepEqual([...new Set(depths)], [3, 0]);
  } finally {
    watch.stop();
    await queue.close();
    await redis.stop();
  }
});
