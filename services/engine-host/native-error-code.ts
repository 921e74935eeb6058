import { NativeError, type NativeErrorCode } from '../../native/ts/index.js';
import { type ErrorCode, type ErrorDetails, ServingError } from '../domain/serving-error.js';

/** The service's code for each of the engine's. A missing row does not compile. */
export const CODE_BY_NATIVE_CODE: Readonly<Record<NativeErrorCode, ErrorCode>> = {
  INVALID_ARGUMENT: 'BAD_REQUEST',
  MODEL_INVALID: 'MODEL_INVALID',
  UNSUPPORTED: 'MODEL_INVALID',
  VALUE_STORE_FULL: 'VALUE_STORE_FULL',
  DATA_LOSS: 'DATA_LOSS',
  CANCELLED: 'CANCELLED',
  IO: 'INTERNAL',
  INTERNAL: 'INTERNAL',
};

/** A store is full until some session in it ends. */
const STORE_FULL: ErrorDetails = {
  retryAfterMs: 10_000,
  quota: {
    subject: 'value store bytes',
    description: 'the file system of the value store is full',
  },
};

/** The ServingError of anything thrown; a bug becomes INTERNAL with its cause kept for the log. */
export function toServingError(error: unknown): ServingError {
  if (error instanceof ServingError) return error;
  if (error instanceof NativeError) {
    const code = CODE_BY_NATIVE_CODE[error.code];
    const details = code === 'VALUE_STORE_FULL' ? STORE_FULL : {};
    return new ServingError(code, error.message, details, { cause: error });
  }
  return new ServingError('INTERNAL', 'internal error', {}, { cause: error });
}
