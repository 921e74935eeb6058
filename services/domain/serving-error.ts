/**
 * Failures a caller can act on: a closed list. Anything else that is thrown is a bug.
 * platform/rpc/status.ts gives each its gRPC status; docs/errors.md explains each.
 */
export const ERROR_CODES = [
  // The request itself is wrong: INVALID_ARGUMENT.
  'BAD_REQUEST',
  'EMPTY_PROMPT',
  'INVALID_UTF8',
  'TOKEN_ID_OUT_OF_RANGE',
  'INVALID_SAMPLING',
  'INVALID_DEADLINE',
  'PROMPT_TOO_LONG',
  'CHAT_TEMPLATE_FAILED',
  // What was asked for exists in the contract but not here: UNIMPLEMENTED.
  'POLICY_NOT_AVAILABLE',
  // Unknown names: NOT_FOUND.
  'UNKNOWN_MODEL',
  'SESSION_NOT_FOUND',
  // The session is not in a state for this call: FAILED_PRECONDITION.
  'SESSION_BUSY',
  'SESSION_ENDED',
  'STALE_EPOCH',
  // Limits, with RetryInfo and QuotaFailure: RESOURCE_EXHAUSTED.
  'VALUE_STORE_FULL',
  'RESERVATION_EXCEEDED',
  'TOO_MANY_SESSIONS',
  'QUEUE_FULL',
  'MESSAGE_TOO_LARGE',
  // Retry elsewhere or later is safe: UNAVAILABLE.
  'NO_WORKER',
  'NO_DECODE',
  'WORKER_LOST',
  'DECODE_LOST',
  'REDIS_UNAVAILABLE',
  'SESSION_LOST',
  'UPLOAD_LOST',
  'SHUTTING_DOWN',
  // Bytes do not match their checksum or fingerprint: DATA_LOSS.
  'DATA_LOSS',
  'JOB_CORRUPT',
  // Model folder missing, corrupt, or not a supported shape: FAILED_PRECONDITION.
  'MODEL_INVALID',
  'CANCELLED',
  'DEADLINE_EXCEEDED',
  'UNAUTHENTICATED',
  'PERMISSION_DENIED',
  'INTERNAL',
] as const;

export type ErrorCode = (typeof ERROR_CODES)[number];

/** What a refusal adds for programs: becomes google.rpc details on the wire. */
export interface ErrorDetails {
  /** BadRequest.FieldViolation list: which field, and what it must be. */
  readonly fieldViolations?: readonly { readonly field: string; readonly description: string }[];
  /** RetryInfo: when a retry may succeed, in milliseconds. */
  readonly retryAfterMs?: number;
  /** QuotaFailure.Violation: which limit, in words. */
  readonly quota?: { readonly subject: string; readonly description: string };
}

export class ServingError extends Error {
  override readonly name = 'ServingError';

  /** @param message says what is wrong and what to change; shown to the client */
  constructor(
    readonly code: ErrorCode,
    message: string,
    readonly details: ErrorDetails = {},
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}
