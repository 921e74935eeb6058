import assert from '../../../support/assert.js';
import { test } from 'node:test';
import {
  addressSetting,
  redisUrlSetting,
  tlsFiles,
} from '../../../../services/platform/config/common-settings.js';
import {
  bytesSetting,
  choiceSetting,
  integerSetting,
  optionalTextSetting,
  textSetting,
} from '../../../../services/platform/config/setting-kinds.js';
import {
  defineSettings,
  describeSettings,
  parseSettings,
} from '../../../../services/platform/config/settings.js';

const spec = defineSettings('worker', {
  name: textSetting({ env: 'NAME', default: 'w', description: 'name' }),
  model: textSetting({ env: 'MODEL', description: 'the model folder' }),
  label: optionalTextSetting({ env: 'LABEL', description: 'label' }),
  threads: integerSetting({
    env: 'THREADS',
    default: 2,
    min: 1,
    max: 64,
    unit: 'threads',
    description: 'engine threads',
  }),
  storeBytes: bytesSetting({ env: 'STORE', default: 2 ** 30, description: 'store size' }),
  dtype: choiceSetting({
    env: 'DTYPE',
    default: 'bf16',
    choices: ['bf16', 'fp32'],
    description: 'dtype',
  }),
  redis: redisUrlSetting(),
  listen: addressSetting({ env: 'LISTEN', default: '127.0.0.1:0', description: 'address' }),
});

const needed = { MODEL: '/m', REDIS_URL: 'redis://127.0.0.1:6379/0' };

test('unset and empty variables take their defaults', () => {
  assert.deepEqual(parseSettings(spec, { ...needed, THREADS: '', LABEL: '' }), {
    name: 'w',
    model: '/m',
    label: null,
    threads: 2,
    storeBytes: 2 ** 30,
    dtype: 'bf16',
    redis: 'redis://127.0.0.1:6379/0',
    listen: '127.0.0.1:0',
  });
});

test('values are parsed to their types', () => {
  const env = { ...needed, THREADS: '8', STORE: '1.5 GiB', DTYPE: 'fp32', LABEL: 'x' };
  const settings = parseSettings(spec, env);
  const { threads, storeBytes, dtype, label } = settings;
  assert.deepEqual(
    { threads, storeBytes, dtype, label },
    { threads: 8, storeBytes: 1.5 * 2 ** 30, dtype: 'fp32', label: 'x' },
  );
});

test('every bad variable is named at once, and a password is not shown', () => {
  const env = {
    THREADS: '65',
    STORE: '12GB',
    DTYPE: 'int4',
    REDIS_URL: 'http://user:secret@h',
    LISTEN: 'nowhere',
  };
  assert.throws(
    () => parseSettings(spec, env),
    (error) => {
      assert.ok(error instanceof Error);
      for (const name of [...Object.keys(env), 'MODEL']) assert.match(error.message, RegExp(name));
      assert.match(error.message, /from 1 to 64, got "65"/);
      assert.doesNotMatch(error.message, /secret/);
      return true;
    },
  );
});

const badIntegers = ['1.5', '1e3', '0x10', 'NaN', '-1', '0', ' ', '99999999999999999999'];
for (const text of badIntegers) {
  test(`"${text}" is no whole number from 1 to 64`, () => {
    assert.throws(() => parseSettings(spec, { ...needed, THREADS: text }), /THREADS/);
  });
}

const badBytes = ['-1', '1GB', 'GiB', '1e9', '', 'Infinity', '9999999TiB'];
for (const text of badBytes.filter((bad) => bad !== '')) {
  test(`"${text}" is no number of bytes`, () => {
    assert.throws(() => parseSettings(spec, { ...needed, STORE: text }), /STORE/);
  });
}

test('the description of what is in force hides passwords', () => {
  const shown = describeSettings(spec, { ...needed, REDIS_URL: 'rediss://u:secret@h:1/2' });
  assert.equal(shown['REDIS_URL'], 'rediss://u:***@h:1/2');
  assert.equal(shown['THREADS'], '2');
});

test('a variable defined twice is refused', () => {
  const twice = textSetting({ env: 'NAME', description: 'again' });
  assert.throws(() => defineSettings('s', { a: twice, b: twice }), /NAME is defined twice/);
});

test('TLS files come as a pair or not at all', () => {
  const none = { tlsCertPath: null, tlsKeyPath: null, tlsCaPath: null };
  assert.equal(tlsFiles(none), null);
  assert.deepEqual(tlsFiles({ ...none, tlsCertPath: 'c', tlsKeyPath: 'k' }), {
    certPath: 'c',
    keyPath: 'k',
    caPath: null,
  });
  assert.throws(() => tlsFiles({ ...none, tlsCertPath: 'c' }), /together/);
  assert.throws(() => tlsFiles({ ...none, tlsCaPath: 'a' }), /together/);
});
