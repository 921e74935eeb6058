import assert from '../../support/assert.js';
import { test } from 'node:test';
import { storeCapacity, storeWarning } from '../../../services/engine-host/check-store-size.js';

const MIB = 2 ** 20;
const store = {
  directory: '/dev/shm/longshadow-7',
  capacityBytes: 1000 * MIB,
  freeBytes: 800 * MIB,
  fileBytes: 100 * MIB,
  smallestSessionBytes: MIB,
  configuredBytes: null,
};

test('a store offers 80 % of what is free; its own files are room too', () => {
  assert.equal(storeCapacity(store), Math.floor(0.8 * 900 * MIB));
});

test("the operator's limit is taken as it is, unless the file system is smaller", () => {
  assert.equal(storeCapacity({ ...store, configuredBytes: 5 * MIB }), 5 * MIB);
  assert.throws(
    () => storeCapacity({ ...store, configuredBytes: 1001 * MIB }),
    /WORKER_STORE_CAPACITY_BYTES/,
  );
});

test("a container's default /dev/shm is named with its remedy", () => {
  const container = { ...store, capacityBytes: 64 * MIB, freeBytes: 0, fileBytes: 0 };
  assert.throws(() => storeCapacity(container), /--shm-size/);
  assert.throws(() => storeCapacity({ ...store, freeBytes: 0, fileBytes: 0 }), /Free space/);
});

test('a store of 64 MiB works for short prompts, with a warning', () => {
  assert.match(storeWarning('/dev/shm', 64 * MIB) ?? '', /only 64 MiB.*--shm-size/);
  assert.equal(storeWarning('/dev/shm', 65 * MIB), null);
});
