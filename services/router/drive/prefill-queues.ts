import { type ConnectionOptions, Queue, QueueEvents } from 'bullmq';
import { z } from 'zod';
import {
  type PrefillJob,
  type PrefillJobResult,
  prefillJobId,
  workerQueueName,
} from '../../domain/prefill-job.js';
import { ERROR_CODES, ServingError } from '../../domain/serving-error.js';
import type { Log } from '../../platform/log.js';
import { answered } from '../../platform/session-store/redis-connection.js';
import { retryWhileRedisIsAway, settledWithin } from './redis-gap.js';

/** How often a waiting driver looks for itself, in case an event of the queue was lost. */
const POLL_MS = 1_000;
/** Polls in a row that must agree before a job counts as lost, or a worker as gone. */
const SURE_POLLS = 2;
/** More of them after Redis was away, in which heartbeats come back. */
const HEARTBEAT_POLLS = 4;
/** BullMQ sets no limit on its commands. */
const COMMAND_TIMEOUT_MS = 3_000;

const tokens = z.number().int().nonnegative();
/** What a worker returns, as it came through Redis. */
const resultSchema = z.object({
  beginToken: tokens,
  endToken: tokens,
  bytes: tokens,
  engineMicros: z.number().nonnegative(),
  alreadyDone: z.boolean(),
});

export interface RunJobOptions {
  readonly signal: AbortSignal;
  /** False once the worker's heartbeat has run out (6 s). */
  readonly isWorkerAlive: () => Promise<boolean>;
  /** Called once if other jobs are ahead. */
  readonly onQueued: (jobsAhead: number) => Promise<void>;
}

/** The queues of all workers. */
export interface PrefillQueues {
  /**
   * Adds a job and waits for its end.
   * @throws ServingError of the worker; WORKER_LOST; the signal's reason
   */
  run(workerId: string, job: PrefillJob, options: RunJobOptions): Promise<PrefillJobResult>;
  /** Removes a job that has not started; one that runs is ended by the worker's ReleaseSession. */
  remove(workerId: string, jobId: string): Promise<void>;
  close(): Promise<void>;
}

interface Waiting {
  readonly resolve: (result: PrefillJobResult) => void;
  readonly reject: (error: Error) => void;
}

interface WorkerQueue {
  readonly queue: Queue<PrefillJob, PrefillJobResult>;
  readonly events: QueueEvents;
  readonly waiting: Map<string, Waiting>;
  /** Rejects if Redis cannot be reached; to be asked again then. */
  readonly ready: () => Promise<unknown>;
}

/** PrefillQueues on BullMQ: one queue and one event stream a worker, opened at its first job. */
export class BullPrefillQueues implements PrefillQueues {
  readonly #queues = new Map<string, WorkerQueue>();

  constructor(
    private readonly connection: ConnectionOptions,
    private readonly log: Log,
  ) {}

  async run(workerId: string, job: PrefillJob, options: RunJobOptions): Promise<PrefillJobResult> {
    const workerQueue = this.#open(workerId);
    const { queue, ready } = workerQueue;
    const { signal } = options;
    await patiently(signal, ready);
    const jobId = prefillJobId(job);
    const done = this.#wait(workerQueue, jobId, signal);
    try {
      const countAhead = async (): Promise<number> => queue.getJobCountByTypes('active', 'waiting');
      const jobsAhead = await patiently(signal, countAhead);
      await patiently(signal, async () => addJob(queue, jobId, job));
      if (jobsAhead > 0) await options.onQueued(jobsAhead);
      return await this.#watch(workerQueue, jobId, job, done, options);
    } finally {
      workerQueue.waiting.delete(jobId);
    }
  }

  async remove(workerId: string, jobId: string): Promise<void> {
    const workerQueue = this.#queues.get(workerId);
    if (workerQueue === undefined) return;
    // 0 means that it runs or is gone; BullMQ never removes a job that a worker holds.
    await inTime(workerQueue.queue.remove(jobId)).catch((error: unknown) => {
      this.log.debug({ err: error, jobId }, 'job not removed');
    });
  }

  /** Closes the queues of all other workers; a job that is waited for keeps its own open. */
  async retain(workerIds: ReadonlySet<string>): Promise<void> {
    const unused = [...this.#queues].filter(
      ([workerId, { waiting }]) => !workerIds.has(workerId) && waiting.size === 0,
    );
    for (const [workerId] of unused) this.#queues.delete(workerId);
    await closeAll(unused.map(([, workerQueue]) => workerQueue));
  }

  async close(): Promise<void> {
    const queues = [...this.#queues.values()];
    this.#queues.clear();
    await closeAll(queues);
  }

  #open(workerId: string): WorkerQueue {
    const open = this.#queues.get(workerId);
    if (open !== undefined) return open;
    const name = workerQueueName(workerId);
    const queue = new Queue<PrefillJob, PrefillJobResult>(name, { connection: this.connection });
    const events = new QueueEvents(name, { connection: this.connection });
    const waiting = new Map<string, Waiting>();
    queue.on('error', (error) => {
      this.log.warn({ err: error, workerId }, 'queue connection');
    });
    events.on('error', (error) => {
      this.log.warn({ err: error, workerId }, 'queue events connection');
    });
    events.on('completed', ({ jobId, returnvalue }: { jobId: string; returnvalue: unknown }) => {
      const result = resultSchema.safeParse(returnvalue);
      if (result.success) waiting.get(jobId)?.resolve(result.data);
      else waiting.get(jobId)?.reject(result.error);
    });
    events.on('failed', ({ jobId, failedReason }) => {
      waiting.get(jobId)?.reject(failureOf(failedReason));
    });
    const ready = async (): Promise<unknown> =>
      Promise.all([queue.waitUntilReady(), events.waitUntilReady()]);
    const workerQueue = { queue, events, waiting, ready };
    this.#queues.set(workerId, workerQueue);
    return workerQueue;
  }

  /** The promise of a job's end; made before the job is added, so that no event is missed. */
  #wait({ waiting }: WorkerQueue, jobId: string, signal: AbortSignal): Promise<PrefillJobResult> {
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
      waiting.set(jobId, { resolve: settle(resolve), reject: settle(reject) });
    });
    done.catch(() => undefined); // heard by whoever awaits it, if anyone still does
    return done;
  }

  /** Waits for the events' answer, and looks after it where none comes. */
  async #watch(
    { queue, waiting }: WorkerQueue,
    jobId: string,
    job: PrefillJob,
    done: Promise<PrefillJobResult>,
    options: RunJobOptions,
  ): Promise<PrefillJobResult> {
    const settled = new AbortController();
    let deadPolls = 0;
    const poll = async (): Promise<void> => {
      let absentPolls = 0;
      while (await pause(POLL_MS, settled.signal)) {
        const alive = await options.isWorkerAlive();
        deadPolls = alive ? 0 : deadPolls + 1;
        if (deadPolls >= SURE_POLLS) {
          waiting.get(jobId)?.reject(workerLost());
          return;
        }
        const known = (await inTime(queue.getJobState(jobId))) !== 'unknown';
        absentPolls = known ? 0 : absentPolls + 1;
        if (absentPolls < SURE_POLLS || settled.signal.aborted) continue;
        // It ended and its event was lost. The worker answers a repeated job from what it has.
        absentPolls = 0;
        await inTime(addJob(queue, jobId, job));
      }
    };
    const afterGap = (): void => {
      deadPolls = -HEARTBEAT_POLLS;
    };
    // Not awaited at the end: with Redis away its last command may hang, and a cancel must not.
    this.#untilSettled(poll, afterGap, settled.signal).catch(() => undefined);
    try {
      return await done;
    } finally {
      settled.abort();
    }
  }

  /** Redis may be away for a while: the poll goes on when it is back. */
  async #untilSettled(
    poll: () => Promise<void>,
    afterGap: () => void,
    settled: AbortSignal,
  ): Promise<void> {
    for (;;) {
      try {
        await poll();
        return;
      } catch (error) {
        if (settled.aborted) return;
        afterGap();
        this.log.warn({ err: error }, 'queue could not be polled');
      }
    }
  }
}

/** Waits for BullMQ as long as Redis is away, but no longer than the session lives. */
async function patiently<T>(signal: AbortSignal, command: () => Promise<T>): Promise<T> {
  return retryWhileRedisIsAway(signal, async () => inTime(command()));
}

/** @throws ServingError REDIS_UNAVAILABLE; the command may then be done later, or never */
async function inTime<T>(command: Promise<T>): Promise<T> {
  if (await settledWithin(COMMAND_TIMEOUT_MS, command)) return answered(command);
  throw new ServingError('REDIS_UNAVAILABLE', 'Redis does not answer; try again', {
    retryAfterMs: 1_000,
  });
}

async function closeAll(queues: readonly WorkerQueue[]): Promise<void> {
  await Promise.allSettled(queues.flatMap(({ queue, events }) => [events.close(), queue.close()]));
}

async function addJob(
  queue: Queue<PrefillJob, PrefillJobResult>,
  jobId: string,
  job: PrefillJob,
): Promise<void> {
  await queue.add(job.kind, job, { jobId, removeOnComplete: true, removeOnFail: true });
}

/** True after the pause, false at once when the signal aborts. */
async function pause(ms: number, signal: AbortSignal): Promise<boolean> {
  if (signal.aborted) return false;
  return new Promise((resolve) => {
    const onAbort = (): void => {
      clearTimeout(timer);
      resolve(false);
    };
    const timer = setTimeout(() => {
      signal.removeEventListener('abort', onAbort);
      resolve(true);
    }, ms);
    signal.addEventListener('abort', onAbort, { once: true });
  });
}

function workerLost(): ServingError {
  return new ServingError(
    'WORKER_LOST',
    'the worker of this session is gone; send the request again',
    { retryAfterMs: 2_000 },
  );
}

/** Workers fail a job with the JSON of a ServingError's code and message; anything else is a bug. */
export function failureOf(failedReason: string): ServingError {
  try {
    const parsed: unknown = JSON.parse(failedReason);
    if (typeof parsed === 'object' && parsed !== null && 'code' in parsed && 'message' in parsed) {
      const code = ERROR_CODES.find((known) => known === parsed.code);
      if (code !== undefined) return new ServingError(code, String(parsed.message));
    }
  } catch {
    // Not JSON: falls through to INTERNAL.
  }
  return new ServingError(
    'INTERNAL',
    'a prefill job failed',
    {},
    { cause: new Error(failedReason) },
  );
}
