import { type ConnectionOptions, Queue, QueueEvents } from 'bullmq';
import { z } from 'zod';
import {
  type PrefillJob,
  type PrefillJobResult,
  workerQueueName,
} from '../../domain/prefill-job.js';
import { ServingError } from '../../domain/serving-error.js';
import type { Log } from '../../platform/log.js';
import { withChecksum } from '../../platform/job-checksum.js';
import { answered } from '../../platform/session-store/redis-connection.js';
import { sparseWorkSchema } from '../../platform/sparse-schemas.js';
import { failureOf } from './job-failure.js';
import { settledWithin } from './redis-gap.js';

/** BullMQ sets no limit on its commands. */
const COMMAND_TIMEOUT_MS = 3_000;

const tokens = z.number().int().nonnegative();
/** What a worker returns, as it came through Redis. */
const resultSchema = z.object({
  beginToken: tokens,
  endToken: tokens,
  bytes: tokens,
  engineMicros: z.number().nonnegative(),
  sparse: sparseWorkSchema.nullable(),
  alreadyDone: z.boolean(),
  sealed: z.boolean(),
});

/**
 * absent: it ended, or Redis has lost it; damaged: what Redis holds of it is no JSON, so that no
 * worker can even read it.
 */
export type JobState = 'present' | 'absent' | 'damaged';

interface Waiting {
  readonly resolve: (result: PrefillJobResult) => void;
  readonly reject: (error: Error) => void;
}

/**
 * One worker's queue on BullMQ, and the jobs on it that this router waits for. Commands reject with
 * REDIS_UNAVAILABLE if Redis does not answer in time; they may then be done later, or never.
 */
export class WorkerQueue {
  readonly #queue: Queue<PrefillJob, PrefillJobResult>;
  readonly #events: QueueEvents;
  readonly #waiting = new Map<string, Waiting>();

  constructor(workerId: string, connection: ConnectionOptions, log: Log) {
    const name = workerQueueName(workerId);
    this.#queue = new Queue(name, { connection });
    this.#events = new QueueEvents(name, { connection });
    this.#queue.on('error', (error) => {
      log.warn({ err: error, workerId }, 'queue connection');
    });
    this.#events.on('error', (error) => {
      log.warn({ err: error, workerId }, 'queue events connection');
    });
    this.#listen();
  }

  #listen(): void {
    this.#events.on('completed', ({ jobId, returnvalue }) => {
      const result = resultSchema.safeParse(returnvalue);
      if (result.success) this.#waiting.get(jobId)?.resolve(result.data);
      else this.#waiting.get(jobId)?.reject(result.error);
    });
    this.#events.on('failed', ({ jobId, failedReason }) => {
      this.#waiting.get(jobId)?.reject(failureOf(failedReason));
    });
  }

  /** True while a job here is waited for. */
  get isWaitedFor(): boolean {
    return this.#waiting.size > 0;
  }

  /** True while a job other than this one is waited for: added, or just about to be. */
  waitsForOthers(jobId: string): boolean {
    return this.#waiting.size > (this.#waiting.has(jobId) ? 1 : 0);
  }

  /** To be asked again if it rejects. */
  async ready(): Promise<void> {
    await inTime(Promise.all([this.#queue.waitUntilReady(), this.#events.waitUntilReady()]));
  }

  /**
   * The promise of a job's end; to be made before the job is added, so that no event is missed.
   * Rejects with the worker's ServingError, or the signal's reason.
   */
  async expect(jobId: string, signal: AbortSignal): Promise<PrefillJobResult> {
    const done = new Promise<PrefillJobResult>((resolve, reject) => {
      const onAbort = (): void => {
        reject(signal.reason as Error);
      };
      signal.addEventListener('abort', onAbort, { once: true });
      const settle = <T>(then: (value: T) => void): ((value: T) => void) => {
        return (value) => {
          signal.removeEventListener('abort', onAbort);
          then(value);
        };
      };
      this.#waiting.set(jobId, { resolve: settle(resolve), reject: settle(reject) });
    });
    done.catch(() => undefined); // heard by whoever awaits it, if anyone still does
    return done;
  }

  /** Ends the wait for a job. */
  fail(jobId: string, error: ServingError): void {
    this.#waiting.get(jobId)?.reject(error);
  }

  forget(jobId: string): void {
    this.#waiting.delete(jobId);
  }

  /** Jobs that wait or run. */
  async jobCount(): Promise<number> {
    return inTime(this.#queue.getJobCountByTypes('active', 'waiting', 'prioritized'));
  }

  /** Adds a job, unless there is one of this id. Jobs of one priority run in the order they came. */
  async add(jobId: string, job: PrefillJob, priority: number): Promise<void> {
    const options = { jobId, priority, removeOnComplete: true, removeOnFail: true };
    await inTime(this.#queue.add(job.kind, withChecksum(job), options));
  }

  /** @returns whether it is gone; false while a worker holds its lock (6 s, renewed while it runs) */
  async remove(jobId: string): Promise<boolean> {
    return (await inTime(this.#queue.remove(jobId))) === 1;
  }

  async stateOf(jobId: string): Promise<JobState> {
    if ((await inTime(this.#queue.getJobState(jobId))) === 'unknown') return 'absent';
    return (await inTime(this.#isReadable(jobId))) ? 'present' : 'damaged';
  }

  async #isReadable(jobId: string): Promise<boolean> {
    try {
      await this.#queue.getJob(jobId);
      return true;
    } catch (error) {
      if (error instanceof SyntaxError) return false;
      throw error;
    }
  }

  async close(): Promise<void> {
    await Promise.allSettled([this.#events.close(), this.#queue.close()]);
  }
}

async function inTime<T>(command: Promise<T>): Promise<T> {
  if (await settledWithin(COMMAND_TIMEOUT_MS, command)) return answered(command);
  throw new ServingError('REDIS_UNAVAILABLE', 'Redis does not answer; try again', {
    retryAfterMs: 1_000,
  });
}
