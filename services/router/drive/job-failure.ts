import { z } from 'zod';
import { ERROR_CODES, type ErrorDetails, ServingError } from '../../domain/serving-error.js';

/** When a client may ask again after a worker's store was full: other sessions end meanwhile. */
const FULL_RETRY_MS = 5_000;

/** What a worker fails a job with, as JSON. */
const failureSchema = z.object({
  code: z.enum(ERROR_CODES),
  message: z.string(),
  details: z
    .object({
      retryAfterMs: z.number().nonnegative(),
      quota: z.object({ subject: z.string(), description: z.string() }),
    })
    .partial()
    .default({}),
});

/** Anything that is not the JSON of a ServingError is a bug: INTERNAL. */
export function failureOf(failedReason: string): ServingError {
  const failure = failureSchema.safeParse(fromJson(failedReason));
  if (!failure.success) {
    const cause = new Error(failedReason);
    return new ServingError('INTERNAL', 'a prefill job failed', {}, { cause });
  }
  const { code, message, details } = failure.data;
  const { retryAfterMs, quota } = details;
  const told: ErrorDetails = {
    ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
    ...(quota === undefined ? {} : { quota }),
  };
  return new ServingError(code, message, { ...limitDetails(code, message), ...told });
}

/** The worker of a session is gone, or takes no more jobs. */
export function workerLost(why: string): ServingError {
  return new ServingError('WORKER_LOST', `${why}; send the request again`, { retryAfterMs: 2_000 });
}

export function jobCorrupt(): ServingError {
  return new ServingError('JOB_CORRUPT', 'a prefill job was damaged in the queue');
}

/** What a client needs to know of a limit, where the worker names only the limit. */
function limitDetails(code: ServingError['code'], message: string): ErrorDetails {
  if (code === 'VALUE_STORE_FULL') {
    const quota = { subject: 'value store bytes', description: message };
    return { retryAfterMs: FULL_RETRY_MS, quota };
  }
  if (code === 'RESERVATION_EXCEEDED') {
    const quota = { subject: 'reserved bytes of the session', description: message };
    return { retryAfterMs: FULL_RETRY_MS, quota };
  }
  return {};
}

function fromJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
