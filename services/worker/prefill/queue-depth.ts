import { Queue } from 'bullmq';
import { workerQueueName } from '../../domain/prefill-job.js';
import { redisOptions } from '../../platform/redis-url.js';

/** As often as heartbeats. */
const READ_MS = 2_000;

/**
 * Tells how many jobs wait on a worker's queue, at once and every two seconds. Not when metrics are
 * read: BullMQ waits for a Redis that is away without limit, and metrics must not wait with it.
 */
export function watchQueueDepth(
  redisUrl: string,
  workerId: string,
  onDepth: (jobs: number) => void,
): { stop(): void } {
  const queue = new Queue(workerQueueName(workerId), { connection: redisOptions(redisUrl) });
  queue.on('error', () => undefined); // the queue's consumer reports the same
  let isReading = false;
  const read = (): void => {
    if (isReading) return;
    isReading = true;
    queue
      .getJobCountByTypes('waiting', 'prioritized')
      .then(onDepth, () => undefined)
      .finally(() => {
        isReading = false;
      });
  };
  read();
  const timer = setInterval(read, READ_MS).unref();
  return {
    stop: () => {
      clearInterval(timer);
      queue.close().catch(() => undefined);
    },
  };
}
