import { ServingError } from '../../domain/serving-error.js';
import { SESSION_ID_PATTERN } from '../../domain/session-record.js';

export function uploadLost(): ServingError {
  return new ServingError(
    'UPLOAD_LOST',
    'the router that took the upload is gone; send the request again',
    { retryAfterMs: 0 },
  );
}

export function notResumed(): ServingError {
  return new ServingError('CANCELLED', 'its router died and no client resumed the session');
}

export function sessionBusy(): ServingError {
  return new ServingError('SESSION_BUSY', 'the session is not idle; wait for its last turn to end');
}

export function uploadCut(): ServingError {
  return new ServingError('UPLOAD_LOST', 'the client went before the upload was complete');
}

export function drivenElsewhere(): ServingError {
  return new ServingError(
    'SHUTTING_DOWN',
    'another router drives the session now; go on with Resume',
    { retryAfterMs: 0 },
  );
}

export function shuttingDown(): ServingError {
  return new ServingError(
    'SHUTTING_DOWN',
    'the router is shutting down; go on with Resume, or send the request again, elsewhere',
    { retryAfterMs: 1_000 },
  );
}

/** @throws ServingError BAD_REQUEST */
export function checkSessionId(sessionId: string): void {
  if (SESSION_ID_PATTERN.test(sessionId)) return;
  throw new ServingError('BAD_REQUEST', 'session_id must be 32 hex digits', {
    fieldViolations: [{ field: 'session_id', description: 'must be 32 hex digits' }],
  });
}
