import type { Log } from '../../platform/log.js';
import { jobCorrupt, workerLost } from './job-failure.js';
import type { WorkerQueue } from './worker-queue.js';

/** How often a waiting driver looks for itself, in case an event of the queue was lost. */
const POLL_MS = 1_000;
/** How often it tries to remove a damaged job: its lock may be free for a moment only. */
const REMOVE_POLL_MS = 25;
/** Polls in a row that must agree before a job counts as lost, or a worker as gone. */
const SURE_POLLS = 2;
/** More of them after Redis was away, in which heartbeats come back. */
const HEARTBEAT_POLLS = 4;

export interface WatchedJob {
  readonly jobId: string;
  readonly queue: WorkerQueue;
  /** False once the worker's heartbeat has run out (6 s). */
  readonly isWorkerAlive: () => Promise<boolean>;
  /** False once the worker has announced that it takes no more jobs. */
  readonly isWorkerTaking: () => Promise<boolean>;
  /** Puts a job that is neither waiting nor running on the queue again. */
  readonly addAgain: () => Promise<void>;
}

/**
 * Looks after a job until `settled` aborts, and ends the wait for it where no event of the queue
 * will: WORKER_LOST if its worker is gone, or leaves without having started it; JOB_CORRUPT if it is
 * damaged. The job is off the queue then. One that was lost is added again: the worker answers a
 * repeated job from what it has.
 */
export async function watchJob(job: WatchedJob, settled: AbortSignal, log: Log): Promise<void> {
  const counts = { dead: 0, absent: 0 };
  let pauseMs = POLL_MS;
  while (await pause(pauseMs, settled)) {
    try {
      pauseMs = await look(job, counts, settled);
    } catch (error) {
      if (settled.aborted) return;
      // Redis may be away for a while: the watch goes on when it is back.
      counts.dead = -HEARTBEAT_POLLS;
      log.warn({ err: error, jobId: job.jobId }, 'queue could not be polled');
    }
  }
}

/** @returns milliseconds until the next look */
async function look(
  { jobId, queue, isWorkerAlive, isWorkerTaking, addAgain }: WatchedJob,
  counts: { dead: number; absent: number },
  settled: AbortSignal,
): Promise<number> {
  const alive = await isWorkerAlive();
  counts.dead = alive ? 0 : counts.dead + 1;
  if (counts.dead >= SURE_POLLS) {
    // It would only be refused if the worker came back to it.
    await queue.remove(jobId);
    queue.fail(jobId, workerLost('the worker of this session is gone'));
    return POLL_MS;
  }
  // A worker that leaves ends the job that it runs, which is locked.
  if (alive && !(await isWorkerTaking()) && (await queue.remove(jobId))) {
    queue.fail(jobId, workerLost('the worker of this session is shutting down'));
    return POLL_MS;
  }
  const state = await queue.stateOf(jobId);
  counts.absent = state === 'absent' ? counts.absent + 1 : 0;
  if (state === 'damaged') {
    // Locked: a worker has read it in time and runs it, or will fail it, or died with it.
    if (!(await queue.remove(jobId))) return REMOVE_POLL_MS;
    queue.fail(jobId, jobCorrupt());
  }
  if (counts.absent >= SURE_POLLS && !settled.aborted) {
    counts.absent = 0;
    await addAgain();
  }
  return POLL_MS;
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
