import { setTimeout as sleep } from 'node:timers/promises';
import { type Job, type JobJson, Worker } from 'bullmq';
import type { PrefillJobResult } from '../../domain/prefill-job.js';
import { workerQueueName } from '../../domain/prefill-job.js';
import { ServingError } from '../../domain/serving-error.js';
import { toServingError } from '../../engine-host/native-error-code.js';
import { checked } from '../../platform/job-checksum.js';
import { redisOptions } from '../../platform/redis-url.js';
import { JobError } from './job-error.js';
import type { QueuedJob } from './prefill-jobs.js';

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
  readonly run: (job: QueuedJob) => Promise<PrefillJobResult>;
  /** A job starts: its BullMQ priority, 0 for none, and whether a lost life of the worker had it. */
  readonly onStart: (job: { readonly priority: number; readonly restarted: boolean }) => void;
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
  let closing = false;
  const worker = new PrefillWorker(
    workerQueueName(options.workerId),
    async ({ id = '', data, timestamp: addedUnixMs, priority, attemptsStarted }) => {
      try {
        // Fetched while the order to close came: the driver finds another worker at once.
        if (closing) throw new ServingError('SHUTTING_DOWN', 'the worker is shutting down');
        options.onStart({ priority, restarted: attemptsStarted > 1 });
        return await options.run({ id, data: checked(data), addedUnixMs });
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
      closing = true;
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

/**
 * Lets a payload that is no JSON reach the handler, as null: it then fails like any other damaged
 * one. BullMQ would throw before the job has a handler, and again whenever its lock has run out.
 */
class PrefillWorker extends Worker<unknown, PrefillJobResult> {
  protected override createJob(json: JobJson, jobId: string): Job<unknown, PrefillJobResult> {
    return super.createJob(isJson(json.data) ? json : { ...json, data: 'null' }, jobId);
  }
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}
