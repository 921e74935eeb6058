import assert from '../../../support/assert.js';
import { test } from 'node:test';
import {
  apiKeyDigest,
  apiKeyLine,
  newApiKey,
  parseApiKeys,
} from '../../../../services/platform/config/api-keys-file.js';

test('a new key is 256 random bits and comes back from its line as its digest', () => {
  const keys = Array.from({ length: 50 }, newApiKey);
  assert.equal(new Set(keys).size, 50);
  for (const key of keys) assert.match(key, /^lsk_[A-Za-z0-9_-]{43}$/);
  const [key = ''] = keys;
  const line = apiKeyLine('acme', key);
  assert.doesNotMatch(line, new RegExp(key.slice(4)), 'the key itself is not in the file');
  assert.deepEqual(parseApiKeys(`${line}\n`), [{ tenant: 'acme', digest: apiKeyDigest(key) }]);
});

test('the digest is the SHA-256 that other programs compute', () => {
  // echo -n abc | sha256sum
  const abc = 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad';
  assert.equal(apiKeyLine('t', 'abc'), `t ${abc}`);
  assert.deepEqual(parseApiKeys(`t ${abc.toUpperCase()}`)[0]?.digest, apiKeyDigest('abc'));
});

test('empty lines, comments, tabs and line ends of Windows are fine; a tenant may have many keys', () => {
  const text = `# keys\r\n\r\n  # more\n${apiKeyLine('a', '1')}\r\n${apiKeyLine('a', '2').replace(' ', '\t')}\n${apiKeyLine('b.c@d-e_f', '3')}`;
  assert.deepEqual(
    parseApiKeys(text).map(({ tenant }) => tenant),
    ['a', 'a', 'b.c@d-e_f'],
  );
  assert.deepEqual(parseApiKeys(''), []);
});

test('a wrong line is named by its number, and nothing of it is repeated', () => {
  const good = apiKeyLine('acme', 'secret');
  const digest = good.slice('acme '.length);
  const wrong = [
    ['lsk_a-key-pasted-here', /^line 2: want TENANT and the SHA-256/],
    [`acme ${digest.slice(1)}`, /^line 2: want TENANT/],
    [`acme ${digest} more`, /^line 2: want TENANT/],
    [digest, /^line 2: want TENANT/],
    [`-acme ${digest}`, /^line 2: a tenant is up to 128 letters/],
    [`${'a'.repeat(129)} ${digest}`, /^line 2: a tenant is/],
    [`ac/me ${digest}`, /^line 2: a tenant is/],
    [`other ${digest.toUpperCase()}`, /^line 2: the key of line 1 again/],
  ] as const;
  for (const [line, message] of wrong) {
    assert.throws(() => parseApiKeys(`${good}\n${line}\n`), { name: 'Error', message }, line);
  }
  assert.throws(
    () => parseApiKeys('lsk_a-key-pasted-here'),
    (error: Error) => !error.message.includes('pasted'),
  );
});
