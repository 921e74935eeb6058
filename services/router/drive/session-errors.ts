import { ServingError } from '../../domain/serving-error.js';

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
