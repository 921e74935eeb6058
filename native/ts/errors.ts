import type { NativeErrorCode } from './addon.js';

/** Every code that the native seam may give. A missing row does not compile. */
const CODES: Readonly<Record<NativeErrorCode, true>> = {
  INVALID_ARGUMENT: true,
  MODEL_INVALID: true,
  UNSUPPORTED: true,
  VALUE_STORE_FULL: true,
  DATA_LOSS: true,
  CANCELLED: true,
  IO: true,
  INTERNAL: true,
};

/** A failure of the native half that a caller can act on; anything else that it throws is a bug. */
export class NativeError extends Error {
  override readonly name = 'NativeError';

  constructor(
    readonly code: NativeErrorCode,
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

/** Rebuilds the class of an error that crossed the seam as an Error with `code`. */
export function toNativeError(error: unknown): unknown {
  if (!(error instanceof Error) || !('code' in error)) return error;
  const { code } = error;
  if (typeof code !== 'string' || !Object.hasOwn(CODES, code)) return error;
  return new NativeError(code as NativeErrorCode, error.message, { cause: error });
}
