import type { ServingError } from '../../domain/serving-error.js';

/**
 * A failed job as its queue keeps it: BullMQ stores the message, the JSON of a ServingError's code,
 * message and details, as `failedReason`.
 */
export class JobError extends Error {
  override readonly name = 'JobError';

  constructor(error: ServingError) {
    const { code, message, details } = error;
    super(JSON.stringify({ code, message, details }), { cause: error });
  }
}
