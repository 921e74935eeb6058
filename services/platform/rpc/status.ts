import { Metadata, status, type ServiceError } from '@grpc/grpc-js';
import { ERROR_CODES, ServingError, type ErrorCode } from '../../domain/serving-error.js';
import {
  decodeStatusDetails,
  encodeStatusDetails,
  STATUS_DETAILS_TRAILER,
} from './status-details.js';

/** What each failure becomes on the wire. Adding a code without a row here does not compile. */
export const STATUS_BY_CODE: Readonly<Record<ErrorCode, status>> = {
  BAD_REQUEST: status.INVALID_ARGUMENT,
  EMPTY_PROMPT: status.INVALID_ARGUMENT,
  INVALID_UTF8: status.INVALID_ARGUMENT,
  TOKEN_ID_OUT_OF_RANGE: status.INVALID_ARGUMENT,
  INVALID_SAMPLING: status.INVALID_ARGUMENT,
  INVALID_DEADLINE: status.INVALID_ARGUMENT,
  PROMPT_TOO_LONG: status.INVALID_ARGUMENT,
  CHAT_TEMPLATE_FAILED: status.INVALID_ARGUMENT,
  POLICY_NOT_AVAILABLE: status.UNIMPLEMENTED,
  UNKNOWN_MODEL: status.NOT_FOUND,
  SESSION_NOT_FOUND: status.NOT_FOUND,
  SESSION_BUSY: status.FAILED_PRECONDITION,
  SESSION_ENDED: status.FAILED_PRECONDITION,
  STALE_EPOCH: status.FAILED_PRECONDITION,
  VALUE_STORE_FULL: status.RESOURCE_EXHAUSTED,
  RESERVATION_EXCEEDED: status.RESOURCE_EXHAUSTED,
  TOO_MANY_SESSIONS: status.RESOURCE_EXHAUSTED,
  QUEUE_FULL: status.RESOURCE_EXHAUSTED,
  MESSAGE_TOO_LARGE: status.RESOURCE_EXHAUSTED,
  // UNAVAILABLE alone promises that the same call may be sent again.
  NO_WORKER: status.UNAVAILABLE,
  NO_DECODE: status.UNAVAILABLE,
  WORKER_LOST: status.UNAVAILABLE,
  DECODE_LOST: status.UNAVAILABLE,
  REDIS_UNAVAILABLE: status.UNAVAILABLE,
  SESSION_LOST: status.UNAVAILABLE,
  UPLOAD_LOST: status.UNAVAILABLE,
  SHUTTING_DOWN: status.UNAVAILABLE,
  DATA_LOSS: status.DATA_LOSS,
  JOB_CORRUPT: status.DATA_LOSS,
  MODEL_INVALID: status.FAILED_PRECONDITION,
  CANCELLED: status.CANCELLED,
  DEADLINE_EXCEEDED: status.DEADLINE_EXCEEDED,
  UNAUTHENTICATED: status.UNAUTHENTICATED,
  PERMISSION_DENIED: status.PERMISSION_DENIED,
  INTERNAL: status.INTERNAL,
};

/** A wire status in the form that grpc-js takes. */
export interface WireStatus {
  readonly code: status;
  /** `CODE: message`. */
  readonly details: string;
  readonly metadata: Metadata;
}

/*
 * The message travels twice (text and google.rpc.Status) in trailers, and gRPC libraries refuse
 * more than 8 KiB of them.
 */
const MESSAGE_LIMIT = 1_000;
const DETAILS_LIMIT_BYTES = 4_096;

/** Converts any thrown value to a wire status. A bug's message stays in our logs. */
export function toStatus(error: unknown): WireStatus {
  const metadata = new Metadata();
  if (!(error instanceof ServingError)) {
    return { code: status.INTERNAL, details: 'INTERNAL: internal error', metadata };
  }
  const code = STATUS_BY_CODE[error.code];
  const message = wireText(error.message);
  if (Object.values(error.details).some((detail) => detail !== undefined)) {
    const encoded = encodeStatusDetails(code, message, error.details);
    if (encoded.length <= DETAILS_LIMIT_BYTES) metadata.set(STATUS_DETAILS_TRAILER, encoded);
  }
  return { code, details: `${error.code}: ${message}`, metadata };
}

/**
 * Converts what a grpc-js client rejects with. Our own servers name the code; a status without
 * one comes from the transport and is told by its number.
 *
 * @param unavailable what an unreachable peer means to the caller
 */
export function fromStatus(error: unknown, unavailable: ErrorCode = 'WORKER_LOST'): ServingError {
  if (error instanceof ServingError) return error;
  if (!isServiceError(error)) {
    return new ServingError('INTERNAL', 'internal error', {}, { cause: error });
  }
  const [, name, message] = /^([A-Z_0-9]+): ([^]*)$/.exec(error.details) ?? [];
  const code = ERROR_CODES.find((known) => known === name);
  const [bytes] = error.metadata.get(STATUS_DETAILS_TRAILER);
  const details = Buffer.isBuffer(bytes) ? decodeStatusDetails(bytes) : {};
  return code === undefined || message === undefined
    ? new ServingError(codeOfTransport(error.code, unavailable), error.details, details, {
        cause: error,
      })
    : new ServingError(code, message, details, { cause: error });
}

function codeOfTransport(code: status, unavailable: ErrorCode): ErrorCode {
  switch (code) {
    case status.UNAVAILABLE:
      return unavailable;
    case status.CANCELLED:
      return 'CANCELLED';
    case status.DEADLINE_EXCEEDED:
      return 'DEADLINE_EXCEEDED';
    case status.RESOURCE_EXHAUSTED:
      return 'MESSAGE_TOO_LARGE';
    case status.INVALID_ARGUMENT:
      return 'BAD_REQUEST';
    case status.UNAUTHENTICATED:
    case status.PERMISSION_DENIED:
      return 'UNAUTHENTICATED';
    case status.DATA_LOSS:
      return 'DATA_LOSS';
    default:
      return 'INTERNAL';
  }
}

function isServiceError(error: unknown): error is ServiceError {
  return (
    error instanceof Error &&
    'code' in error &&
    typeof error.code === 'number' &&
    'metadata' in error &&
    error.metadata instanceof Metadata
  );
}

/** Cut to size, with lone surrogates replaced: grpc-js throws on them when it sends the status. */
function wireText(text: string): string {
  const cut = text.length > MESSAGE_LIMIT ? `${text.slice(0, MESSAGE_LIMIT)}...` : text;
  return Buffer.from(cut, 'utf8').toString('utf8');
}
