import assert from '../../../support/assert.js';
import { chmodSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import {
  readPrivateFile,
  requirePrivate,
} from '../../../../services/platform/config/private-file.js';

const folder = mkdtempSync(join(tmpdir(), 'ls-private-'));
after(() => {
  rmSync(folder, { recursive: true, force: true });
});

function fileWith(name: string, mode: number, text = 'secret'): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  chmodSync(path, mode);
  return path;
}

test('a file of ours is read only if nobody else can open it', async () => {
  assert.equal(await readPrivateFile(fileWith('ours', 0o600)), 'secret');
  assert.equal(await readPrivateFile(fileWith('read-only', 0o400)), 'secret');
  for (const mode of [0o640, 0o604, 0o620, 0o602, 0o644, 0o666]) {
    const path = fileWith(`mode-${mode.toString(8)}`, mode);
    const message = new RegExp(`0${mode.toString(8)} .*chmod 600`);
    await assert.rejects(readPrivateFile(path), { message });
  }
});

test('a link is read as its target, whose mode counts', async () => {
  symlinkSync(fileWith('target', 0o600), join(folder, 'link'));
  assert.equal(await readPrivateFile(join(folder, 'link')), 'secret');
  symlinkSync(fileWith('open-target', 0o644), join(folder, 'open-link'));
  await assert.rejects(readPrivateFile(join(folder, 'open-link')), /0644/);
});

test('what is absent, a folder or far too long is refused', async () => {
  await assert.rejects(readPrivateFile(join(folder, 'none')), /ENOENT.*none/);
  await assert.rejects(readPrivateFile(folder), /not a regular file/);
  const long = fileWith('long', 0o600, 'x'.repeat(2 ** 20 + 1));
  await assert.rejects(readPrivateFile(long), /longer than 1048576 bytes/);
});

test("another user's file is refused; root's, as containers mount secrets, may be read by our group", () => {
  const us = 1_000;
  const check = (uid: number, mode: number): void => {
    requirePrivate('f', { uid, mode: 0o100_000 | mode, isFile: () => true }, us);
  };
  check(us, 0o600);
  check(0, 0o440);
  check(0, 0o400);
  for (const mode of [0o444, 0o460, 0o441]) {
    assert.throws(() => {
      check(0, mode);
    }, /open to other users/);
  }
  for (const mode of [0o600, 0o440]) {
    assert.throws(() => {
      check(1_001, mode);
    }, /belongs to another user/);
  }
  assert.throws(() => {
    check(us, 0o440);
  }, /open to other users/);
});
