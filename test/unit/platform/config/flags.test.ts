import assert from '../../../support/assert.js';
import { test } from 'node:test';
import { environmentWithFlags } from '../../../../services/platform/config/flags.js';

const ENVIRONMENT = { LONGSHADOW_TLS_CERT: 'env.crt', REDIS_URL: 'redis://r' };

test('flags stand for variables and come before them', () => {
  const flags = ['--tls-cert', 'a.crt', '--tls-key=a.key', '--tls-ca', 'ca.crt', '--check-config'];
  assert.deepEqual(environmentWithFlags(ENVIRONMENT, flags), {
    LONGSHADOW_TLS_CERT: 'a.crt',
    LONGSHADOW_TLS_KEY: 'a.key',
    LONGSHADOW_TLS_CA: 'ca.crt',
    REDIS_URL: 'redis://r',
  });
  assert.deepEqual(environmentWithFlags(ENVIRONMENT, []), ENVIRONMENT);
});

test('an argument that no service knows is an error that names it', () => {
  for (const argv of [['--tls-crt', 'a.crt'], ['a.crt'], ['--tls-cert']]) {
    assert.throws(() => environmentWithFlags({}, argv), /tls-crt|a\.crt|tls-cert/);
  }
});
