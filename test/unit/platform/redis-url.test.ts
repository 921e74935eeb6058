import assert from '../../support/assert.js';
import { test } from 'node:test';
import {
  reconnectDelayMs,
  redisOptions,
  withoutPassword,
} from '../../../services/platform/redis-url.js';

const cases = [
  { url: 'redis://h', want: { host: 'h', port: 6379, db: 0 } },
  { url: 'redis://127.0.0.1:7000/3', want: { host: '127.0.0.1', port: 7000, db: 3 } },
  { url: 'redis://[::1]:7000', want: { host: '::1', port: 7000, db: 0 } },
  {
    url: 'rediss://u:p%40ss@h:1/2',
    want: { host: 'h', port: 1, db: 2, username: 'u', password: 'p@ss', tls: { servername: 'h' } },
  },
  { url: 'redis://:pw@h', want: { host: 'h', port: 6379, db: 0, password: 'pw' } },
  { url: 'unix:///tmp/a%20b/r.sock', want: { path: '/tmp/a b/r.sock', db: 0 } },
  { url: 'unix:///r.sock?db=4', want: { path: '/r.sock', db: 4 } },
];
for (const { url, want } of cases) {
  test(`${url} is read`, () => {
    const { retryStrategy, keepAlive, connectTimeout, ...rest } = redisOptions(url);
    assert.deepEqual(rest, { ...want, maxRetriesPerRequest: null });
    assert.ok(keepAlive > 0 && connectTimeout > 0);
    assert.equal(retryStrategy, reconnectDelayMs);
  });
}

const bad = [
  '',
  'localhost:6379',
  'http://h',
  'redis://',
  'unix://',
  'redis://h/x',
  'redis://h/-1',
];
for (const url of bad) {
  test(`"${url}" is refused`, () => {
    assert.throws(() => redisOptions(url), { name: 'ServingError', code: 'BAD_REQUEST' });
  });
}

test('passwords are hidden', () => {
  assert.equal(withoutPassword('redis://u:s:e@c@h/0'), 'redis://u:***@h/0');
  assert.equal(withoutPassword('redis://h/0'), 'redis://h/0');
  assert.throws(
    () => redisOptions('ftp://u:secret@h'),
    (error) => {
      assert.doesNotMatch(String(error), /secret/);
      return true;
    },
  );
});

test('reconnects back off to two seconds and never stop', () => {
  assert.deepEqual([1, 2, 3, 7, 1_000_000].map(reconnectDelayMs), [50, 100, 200, 2_000, 2_000]);
});
