import { NativeError, type NativeErrorCode } from '../../native/ts/index.js';
import { type ErrorCode, ServingError } from '../domain/serving-error.js';

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

/** The ServingError of anything thrown; a bug becomes INTERNAL with its cause kept for the log. */
export function toServingError(error: unknown): ServingError {
  if (error instanceof ServingError) return error;
  if (error instanceof NativeError) {
    return new ServingError(CODE_BY_NATIVE_CODE[error.code], error.message, {}, { cause: error });
  }
  return new ServingError('INTERNAL', 'internal error', {}, { cause: error });
}
