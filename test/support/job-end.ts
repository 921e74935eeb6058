import type { QueueEvents } from 'bullmq';
import type { PrefillJobResult } from '../../services/domain/prefill-job.js';

/**
 * The end of a job that is about to be added: rejects with an Error whose message is its failure.
 * Listens from now on, because a job is removed as soon as it ends, which may be before its adding
 * has been answered.
 */
export function jobEnd(
  events: QueueEvents,
  jobId: string,
  withinMs = 120_000,
): Promise<PrefillJobResult> {
  const end = new Promise<PrefillJobResult>((resolve, reject) => {
    const onCompleted = (job: { jobId: string; returnvalue: unknown }): void => {
      if (job.jobId !== jobId) return;
      stop();
      resolve(job.returnvalue as PrefillJobResult);
    };
    const onFailed = (job: { jobId: string; failedReason: string }): void => {
      if (job.jobId !== jobId) return;
      stop();
      reject(new Error(job.failedReason));
    };
    const timer = setTimeout(() => {
      stop();
      reject(new Error(`job ${jobId} has not ended within ${String(withinMs)} ms`));
    }, withinMs).unref();
    const stop = (): void => {
      clearTimeout(timer);
      events.off('completed', onCompleted);
      events.off('failed', onFailed);
    };
    events.on('completed', onCompleted);
    events.on('failed', onFailed);
  });
  end.catch(() => undefined); // heard by whoever awaits it, if anyone does
  return end;
}
