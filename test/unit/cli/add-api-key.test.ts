import assert from '../../support/assert.js';
import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { addApiKey } from '../../../services/cli/keys/add-api-key.js';
import { apiKeyDigest, parseApiKeys } from '../../../services/platform/config/api-keys-file.js';

const folder = mkdtempSync(join(tmpdir(), 'ls-add-key-'));
after(() => {
  rmSync(folder, { recursive: true, force: true });
});

test('a file is made for its owner alone, and grows by a line a key', async () => {
  const path = join(folder, 'new.txt');
  const before = process.umask(0);
  const first = await addApiKey(path, 'acme').finally(() => process.umask(before));
  assert.equal(statSync(path).mode & 0o777, 0o600);
  const second = await addApiKey(path, 'zoo');
  const text = readFileSync(path, 'utf8');
  assert.deepEqual(parseApiKeys(text), [
    { tenant: 'acme', digest: apiKeyDigest(first) },
    { tenant: 'zoo', digest: apiKeyDigest(second) },
  ]);
  assert.ok(!text.includes(first) && !text.includes(second));
});

test('comments stay, and a last line without its end is not run together with the new one', async () => {
  const path = join(folder, 'edited.txt');
  writeFileSync(path, '# ours', { mode: 0o600 });
  await addApiKey(path, 'acme');
  assert.match(readFileSync(path, 'utf8'), /^# ours\nacme [0-9a-f]{64}\n$/);
});

test('keys that are added at the same time are all there', async () => {
  const path = join(folder, 'many.txt');
  const tenants = Array.from({ length: 12 }, (_, index) => `t${String(index)}`);
  const keys = await Promise.all(tenants.map(async (tenant) => addApiKey(path, tenant)));
  const found = parseApiKeys(readFileSync(path, 'utf8'));
  for (const key of keys) assert.ok(found.some(({ digest }) => digest.equals(apiKeyDigest(key))));
});

test('a file that is not fit for keys, or a name that is none, changes nothing', async () => {
  const open = join(folder, 'open.txt');
  writeFileSync(open, '');
  chmodSync(open, 0o644);
  const broken = join(folder, 'broken.txt');
  writeFileSync(broken, 'rubbish\n', { mode: 0o600 });
  for (const [path, tenant, message] of [
    [open, 'acme', /--file .*mode 0644.*chmod 600/],
    [broken, 'acme', /--file .*line 1/],
    [join(folder, 'none', 'keys.txt'), 'acme', /--file .*ENOENT/],
    [join(folder, 'unmade.txt'), 'a/b', /--tenant: want up to 128 letters/],
    [join(folder, 'unmade.txt'), '', /--tenant/],
  ] as const) {
    await assert.rejects(addApiKey(path, tenant), { code: 'BAD_REQUEST', message });
  }
  assert.equal(readFileSync(open, 'utf8'), '');
  assert.equal(readFileSync(broken, 'utf8'), 'rubbish\n');
  assert.throws(() => statSync(join(folder, 'unmade.txt')), { code: 'ENOENT' });
});
