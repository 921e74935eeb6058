import assert from '../../../support/assert.js';
import { test } from 'node:test';
import {
  formatHostPort,
  isLoopback,
  parseListenAddress,
} from '../../../../services/platform/rpc/listen-address.js';

const cases = [
  { address: '127.0.0.1:0', loopback: true },
  { address: '127.8.9.10:7001', loopback: true },
  { address: 'localhost:7001', loopback: true },
  { address: 'LOCALHOST:7001', loopback: true },
  { address: '[::1]:7001', loopback: true },
  { address: 'unix:/run/longshadow.sock', loopback: true },
  { address: 'unix:///run/longshadow.sock', loopback: true },
  { address: '0.0.0.0:7001', loopback: false },
  { address: '[::]:7001', loopback: false },
  { address: '192.168.1.2:7001', loopback: false },
  { address: 'localhost.example.org:7001', loopback: false },
  { address: '127.example.org:7001', loopback: false },
];
for (const { address, loopback } of cases) {
  test(`${address} ${loopback ? 'is' : 'is not'} loopback`, () => {
    assert.equal(isLoopback(parseListenAddress(address)), loopback);
  });
}

const bad = [
  '',
  '7001',
  ':7001',
  'host',
  'host:',
  'host:70000',
  'host:x',
  '::1:7001',
  '[host]:1',
  'unix:x',
];
for (const address of bad) {
  test(`"${address}" is refused`, () => {
    assert.throws(() => parseListenAddress(address), /want host:port/);
  });
}

test('host and port are put together again', () => {
  assert.equal(formatHostPort('::1', 1), '[::1]:1');
  assert.equal(formatHostPort('h', 2), 'h:2');
});
