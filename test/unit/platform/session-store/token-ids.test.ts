import assert from '../../../support/assert.js';
import { test } from 'node:test';
import { crc32 } from 'node:zlib';
import {
  packTokenIds,
  unpackTokenIds,
} from '../../../../services/platform/session-store/token-ids.js';

test('ids are little-endian uint32, then a CRC32', () => {
  const packed = packTokenIds(Uint32Array.of(1, 0xfedcba98));
  assert.equal(packed.subarray(0, 8).toString('hex'), '0100000098badcfe');
  assert.equal(packed.readUInt32LE(8), crc32(Buffer.from('0100000098badcfe', 'hex')));
});

test('any ids, none too, and a view into a larger array, come back', () => {
  const all = Uint32Array.from({ length: 1_000 }, (_, i) => (i * 2_246_822_519) >>> 0);
  for (const ids of [all, all.subarray(3, 700), new Uint32Array(), Uint32Array.of(0xffffffff)]) {
    assert.deepEqual(unpackTokenIds(packTokenIds(ids)), Uint32Array.from(ids));
  }
});

test('every single flipped bit and every cut is found', () => {
  const packed = packTokenIds(Uint32Array.of(5, 6, 7));
  for (let bit = 0; bit < packed.length * 8; bit += 1) {
    const damaged = Buffer.from(packed);
    damaged.writeUInt8(damaged.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3);
    assert.throws(() => unpackTokenIds(damaged), { code: 'DATA_LOSS' });
  }
  for (let length = 0; length < packed.length; length += 1) {
    assert.throws(() => unpackTokenIds(packed.subarray(0, length)), { code: 'DATA_LOSS' });
  }
});
