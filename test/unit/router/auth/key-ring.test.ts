import assert from '../../../support/assert.js';
import { test } from 'node:test';
import { apiKeyLine, parseApiKeys } from '../../../../services/platform/config/api-keys-file.js';
import { tenantOfKey } from '../../../../services/router/auth/key-ring.js';

const keys = parseApiKeys(
  [apiKeyLine('acme', 'lsk_one'), apiKeyLine('acme', 'lsk_two'), apiKeyLine('zoo', 'lsk_z')].join(
    '\n',
  ),
);

test('a bearer key, in whatever case the word is, gives its tenant', () => {
  assert.equal(tenantOfKey('Bearer lsk_one', keys), 'acme');
  assert.equal(tenantOfKey('bearer lsk_two', keys), 'acme');
  assert.equal(tenantOfKey('BEARER  lsk_z', keys), 'zoo');
});

test('none, another scheme, an unknown key and a digest itself are UNAUTHENTICATED, with what to do', () => {
  const [first] = keys;
  const wrong: readonly (readonly [string | null, RegExp])[] = [
    [null, /wants an API key: send .*Bearer KEY.*--api-key/],
    ['', /no bearer key/],
    ['Bearer ', /no bearer key/],
    ['Basic bHNrX29uZQ==', /no bearer key/],
    ['lsk_one', /no bearer key/],
    ['Bearer lsk_one lsk_two', /no bearer key/],
    ['Bearer lsk_on', /not one of this router/],
    ['Bearer lsk_onee', /not one of this router/],
    ['Bearer LSK_ONE', /not one of this router/],
    [`Bearer ${first?.digest.toString('hex') ?? ''}`, /not one of this router/],
  ];
  for (const [authorization, message] of wrong) {
    assert.throws(() => tenantOfKey(authorization, keys), { code: 'UNAUTHENTICATED', message });
  }
  assert.throws(() => tenantOfKey('Bearer lsk_one', []), { code: 'UNAUTHENTICATED' });
});

test('a refusal repeats nothing of the key', () => {
  assert.throws(
    () => tenantOfKey('Bearer lsk_confidential', keys),
    (error: Error) => !error.message.includes('confidential'),
  );
});
