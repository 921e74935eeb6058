import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'bullmq';
import type { PrefillJobResult } from '../../domain/prefill-job.js';
import { workerQueueName } from '../../domain/prefill-job.js';
import { toServingError } from '../../engine-host/native-error-code.js';
import { redisOptions } from '../../platform/redis-url.js';
import { JobError } from './job-error.js';

/*
 * A chunk may run for minutes. BullMQ renews its lock every half lock duration from the event
 * loop, which the engine leaves free, so the lock's length is only how soon a worker that died is
 * noticed: at most lock + check later its job is put back for its next life.
 */
const LOCK_MS = 6_000;
const STALLED_CHECK_MS = 2_000;
/** A stalled job is never given up here: its session's deadline and driver decide. */
const MAX_STALLS = 1_000_000;
/** Without Redis BullMQ waits for its connections for ever; its close is given up after this. */
const CLOSE_LIMIT_MS = 5_000;

export interface JobQueueOptions {
  readonly redisUrl: string;
  readonly workerId: string;
  readonly run: (data: unknown, addedUnixMs: number) => Promise<PrefillJobResult>;
  /** Jobs that failed for a reason the sender cannot act on, and trouble with Redis. */
  readonly onError: (error: unknown) => void;
}

export interface JobQueue {
  /**
   * Takes no further job and waits for the running one; after `graceMs` calls `interrupt`, which
   * must make it end.
   */
  close(graceMs: number, interrupt: () => Promise<void>): Promise<void>;
}

/**
 * Consumes this worker's queue, one job at a time: sessions interleave because each has one
 * outstanding job.
 */
export async function startJobQueue(options: JobQueueOptions): Promise<JobQueue> {
  const worker = new Worker<unknown, PrefillJobResult>(
    workerQueueName(options.workerId),
    async (job) => {
      try {
        return await options.run(job.data, job.timestamp);
      } catch (error) {
        const failure = toServingError(error);
        if (failure.code === 'INTERNAL') options.onError(error);
        throw new JobError(failure);
      }
    },
    {
      connection: redisOptions(options.redisUrl),
      concurrency: 1,
      lockDuration: LOCK_MS,
      stalledInterval: STALLED_CHECK_MS,
      maxStalledCount: MAX_STALLS,
    },
  );
  worker.on('error', options.onError);
  await worker.waitUntilReady();
  return {
    async close(graceMs, interrupt) {
      const closed = worker.close();
      const late = new AbortController();
      const { signal } = late;
      const giveUp = async (): Promise<void> => {
        await sleep(graceMs, null, { signal });
        await interrupt();
        await sleep(CLOSE_LIMIT_MS, null, { signal });
      };
      try {
        await Promise.race([closed, giveUp()]);
      } finally {
        late.abort();
      }
    },
  };
}
