import strict from 'node:assert/strict';

/**
 * `node:assert/strict`, but with an `ok` that fails at once. To word the failure of an `ok` without
 * a message, Node 20 looks for the call in the source file, by a line and column of the transformed
 * source: that search can go on for ever, and the test hangs instead of failing.
 */
function ok(
  value: unknown,
  message: string | Error = `expected a true value, got ${String(value)}`,
) {
  strict.ok(value, message);
}

const assert: typeof strict = Object.assign(
  (value: unknown, message?: string | Error) => {
    ok(value, message);
  },
  strict,
  { ok },
);

export default assert;
