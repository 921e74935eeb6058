import { setTimeout as delay } from 'node:timers/promises';
import type { ConnectionOptions } from 'bullmq';
import { type PrefillJob, type PrefillJobResult, prefillJobId } from '../../domain/prefill-job.js';
import { ServingError } from '../../domain/serving-error.js';
import type { FairShares } from '../../domain/session-store.js';
import type { Log } from '../../platform/log.js';
import { retryWhileRedisIsAway } from './redis-gap.js';
import { watchJob } from './watch-job.js';
import { WorkerQueue } from './worker-queue.js';

const REMOVE_POLL_MS = 100;
/** How long a job that failed as damaged may stay on the queue: BullMQ's lock, and a little. */
const REMOVE_DAMAGED_MS = 9_000;

export interface RunJobOptions {
  readonly signal: AbortSignal;
  /** What pays for the job, see shareOf(): jobs of different shares take turns by what was paid. */
  readonly share: string;
  /** What it pays, see chargedTokens(). */
  readonly chargedTokens: number;
  /** False once the worker's heartbeat has run out (6 s). */
  readonly isWorkerAlive: () => Promise<boolean>;
  /** False once the worker has announced that it takes no more jobs. Default: it takes them. */
  readonly isWorkerTaking?: () => Promise<boolean>;
  /** Called once if other jobs are there, with how many: at most so many are ahead. */
  readonly onQueued: (jobsAhead: number) => Promise<void>;
}

/** The queues of all workers. */
export interface PrefillQueues {
  /**
   * Adds a job and waits for its end.
   * @throws ServingError of the worker; WORKER_LOST if it is gone, or leaves before the job has
   *   started; JOB_CORRUPT if the job was damaged: it is off the queue and may be added again; the
   *   signal's reason
   */
  run(workerId: string, job: PrefillJob, options: RunJobOptions): Promise<PrefillJobResult>;
  /**
   * Removes a job that does not run; one that runs is ended by the worker's ReleaseSession.
   *
   * @param patienceMs how long to wait for a job's lock, which outlives a dead worker by up to 6 s
   * @returns whether it is gone
   */
  remove(workerId: string, jobId: string, patienceMs?: number): Promise<boolean>;
  /** Jobs of a worker that wait or run. @throws ServingError REDIS_UNAVAILABLE */
  depth(workerId: string): Promise<number>;
  close(): Promise<void>;
}

/** PrefillQueues on BullMQ: one queue and one event stream a worker, opened at its first job. */
export class BullPrefillQueues implements PrefillQueues {
  readonly #queues = new Map<string, WorkerQueue>();

  constructor(
    private readonly connection: ConnectionOptions,
    private readonly fairShares: FairShares,
    private readonly log: Log,
  ) {}

  async run(workerId: string, job: PrefillJob, options: RunJobOptions): Promise<PrefillJobResult> {
    const queue = this.#open(workerId);
    const jobId = prefillJobId(job);
    const { signal } = options;
    const patiently = async <T>(command: () => Promise<T>): Promise<T> =>
      retryWhileRedisIsAway(signal, command);
    await patiently(async () => queue.ready());
    const done = queue.expect(jobId, signal);
    done.catch(() => undefined); // awaited only once the job is on the queue
    try {
      const jobsAhead = await patiently(async () => queue.jobCount());
      const add = async (charged: number, isIdle: boolean): Promise<void> => {
        const { share } = options;
        const { fairShares } = this;
        const priority = await fairShares.nextPriority(workerId, share, charged, isIdle);
        await queue.add(jobId, job, priority);
      };
      // Of several jobs that come to an empty queue at once, none may make the others' shares void.
      const isIdle = jobsAhead === 0 && !queue.waitsForOthers(jobId);
      await patiently(async () => add(options.chargedTokens, isIdle));
      if (jobsAhead > 0) await options.onQueued(jobsAhead);
      // What was lost has been paid for.
      const addAgain = async (): Promise<void> => add(0, false);
      return await this.#watched(queue, jobId, done, { ...options, addAgain });
    } catch (error) {
      if (isCorrupt(error)) await this.remove(workerId, jobId, REMOVE_DAMAGED_MS);
      throw error;
    } finally {
      queue.forget(jobId);
    }
  }

  async remove(workerId: string, jobId: string, patienceMs = 0): Promise<boolean> {
    const queue = this.#open(workerId);
    const endMs = performance.now() + patienceMs;
    for (;;) {
      const isGone = await queue.remove(jobId).catch((error: unknown) => {
        this.log.debug({ err: error, jobId }, 'job not removed');
        return false;
      });
      if (isGone || performance.now() >= endMs) return isGone;
      await delay(REMOVE_POLL_MS);
    }
  }

  async depth(workerId: string): Promise<number> {
    return this.#open(workerId).jobCount();
  }

  /** Closes the queues of all other workers; a job that is waited for keeps its own open. */
  async retain(workerIds: ReadonlySet<string>): Promise<void> {
    const unused = [...this.#queues].filter(
      ([workerId, queue]) => !workerIds.has(workerId) && !queue.isWaitedFor,
    );
    for (const [workerId] of unused) this.#queues.delete(workerId);
    await Promise.all(unused.map(async ([, queue]) => queue.close()));
  }

  async close(): Promise<void> {
    const queues = [...this.#queues.values()];
    this.#queues.clear();
    await Promise.all(queues.map(async (queue) => queue.close()));
  }

  #open(workerId: string): WorkerQueue {
    const open = this.#queues.get(workerId);
    if (open !== undefined) return open;
    const queue = new WorkerQueue(workerId, this.connection, this.log);
    this.#queues.set(workerId, queue);
    return queue;
  }

  /** Waits for the events' answer, and looks after it where none comes. */
  async #watched(
    queue: WorkerQueue,
    jobId: string,
    done: Promise<PrefillJobResult>,
    options: RunJobOptions & { readonly addAgain: () => Promise<void> },
  ): Promise<PrefillJobResult> {
    const settled = new AbortController();
    const { isWorkerAlive, addAgain } = options;
    const isWorkerTaking = options.isWorkerTaking ?? (async () => Promise.resolve(true));
    const watched = { jobId, queue, isWorkerAlive, isWorkerTaking, addAgain };
    // Not awaited at the end: with Redis away its last command may hang, and a cancel must not.
    watchJob(watched, settled.signal, this.log).catch(() => undefined);
    try {
      return await done;
    } finally {
      settled.abort();
    }
  }
}

function isCorrupt(error: unknown): boolean {
  return error instanceof ServingError && error.code === 'JOB_CORRUPT';
}
