import assert from '../support/assert.js';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { NativeError, toNativeError } from '../../native/ts/errors.js';
import { addonPath } from '../../native/ts/load.js';

test('the add-on is found from the sources and from dist, in the package named longshadow', (t) => {
  const root = mkdtempSync(join(tmpdir(), 'longshadow-load-'));
  t.after(() => {
    rmSync(root, { recursive: true, force: true });
  });
  const expected = join(root, 'build', 'Release', 'addon.node');
  const compiled = join(root, 'dist', 'native', 'ts');
  mkdirSync(compiled, { recursive: true });
  writeFileSync(join(root, 'package.json'), '{"name":"longshadow"}');
  writeFileSync(join(root, 'dist', 'package.json'), '{"type":"module"}');
  assert.equal(addonPath({}, compiled), expected);
  assert.equal(addonPath({ LONGSHADOW_ADDON: '' }, join(root, 'native', 'ts')), expected);
  assert.equal(addonPath({ LONGSHADOW_ADDON: '/x/addon.node' }, compiled), '/x/addon.node');
  assert.throws(() => addonPath({}, tmpdir()), /no package\.json of longshadow/);
});

test('only errors with a code of the seam become NativeErrors', () => {
  const crossed = Object.assign(new Error('too long'), { code: 'INVALID_ARGUMENT' });
  const rebuilt = toNativeError(crossed);
  assert.ok(rebuilt instanceof NativeError);
  assert.equal(rebuilt.code, 'INVALID_ARGUMENT');
  assert.equal(rebuilt.message, 'too long');
  assert.equal(rebuilt.cause, crossed);
  const others: unknown[] = [
    new Error('no code'),
    Object.assign(new Error('of Node'), { code: 'ENOENT' }),
    Object.assign(new Error('inherited name'), { code: 'toString' }),
    'a string',
  ];
  for (const other of others) assert.equal(toNativeError(other), other);
});
