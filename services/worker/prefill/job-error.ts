import type { ServingError } from '../../domain/serving-error.js';

/** A failed job as its queue keeps it: BullMQ stores the message as `failedReason`. */
export class JobError extends Error {
  override readonly name = 'JobError';

  constructor(error: ServingError) {
    super(JSON.stringify({ code: error.code, message: error.message }), { cause: error });
  }
}
