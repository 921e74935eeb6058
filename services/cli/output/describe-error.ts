import { ServingError } from '../../domain/serving-error.js';

/** One line for a person: the code, what is wrong and what to change. No stack. */
export function describeError(error: unknown): string {
  if (error instanceof ServingError) return `${error.code}: ${error.message}`;
  if (error instanceof Error) {
    const code = (error as NodeJS.ErrnoException).code;
    return code === undefined || error.message.startsWith(code)
      ? error.message
      : `${code}: ${error.message}`;
  }
  return String(error);
}
