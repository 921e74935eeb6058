import assert from '../../support/assert.js';
import { test } from 'node:test';
import { InvalidArgumentError } from 'commander';
import {
  collectRange,
  finiteNumber,
  hostPort,
  hostPortList,
  integerFrom,
  integerList,
  sessionId,
  unsigned64,
} from '../../../services/cli/commands/option-parsers.js';

test('good values are taken', () => {
  assert.equal(integerFrom(1)('12'), 12);
  assert.equal(integerFrom(-5)('-3'), -3);
  assert.equal(finiteNumber('0.25'), 0.25);
  assert.equal(unsigned64('18446744073709551615'), '18446744073709551615');
  assert.equal(hostPort('127.0.0.1:0'), '127.0.0.1:0');
  assert.deepEqual(integerList('0,1,63'), [0, 1, 63]);
  assert.deepEqual(collectRange('10:12', [{ beginToken: 1, endToken: 2 }]), [
    { beginToken: 1, endToken: 2 },
    { beginToken: 10, endToken: 12 },
  ]);
});

const WRONG: readonly (readonly [string, () => unknown])[] = [
  ['an integer below the least', () => integerFrom(1)('0')],
  ['a fraction for an integer', () => integerFrom(0)('1.5')],
  ['an unsafe integer', () => integerFrom(0)('9007199254740993')],
  ['no number', () => finiteNumber('')],
  ['infinity', () => finiteNumber('Infinity')],
  ['a seed above 64 bits', () => unsigned64('18446744073709551616')],
  ['an address without a port', () => hostPort('localhost')],
  ['a port above 65535', () => hostPort('localhost:65536')],
  ['a list with a gap', () => integerList('1,,2')],
  ['an empty range', () => collectRange('5:5', [])],
];

for (const [what, parse] of WRONG) {
  test(`${what} is refused`, () => {
    assert.throws(parse, InvalidArgumentError);
  });
}

test('a list of routers names each once; a session id has 32 hex digits', () => {
  assert.deepEqual(hostPortList('a:1'), ['a:1']);
  assert.deepEqual(hostPortList('a:1,b:2,a:1'), ['a:1', 'b:2']);
  for (const bad of ['', 'a:1,', 'a:1, b', ',a:1']) {
    assert.throws(() => hostPortList(bad), InvalidArgumentError, bad);
  }
  assert.equal(sessionId('0123456789abcdef'.repeat(2)), '0123456789abcdef'.repeat(2));
  for (const bad of ['', 'x', 'F'.repeat(32)]) {
    assert.throws(() => sessionId(bad), InvalidArgumentError, bad);
  }
});
