import assert from '../../support/assert.js';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { ServingError, type ErrorCode } from '../../../services/domain/serving-error.js';
import { readTokenIds } from '../../../services/cli/engine/token-ids-file.js';
import { writeSafetensors } from '../../../services/cli/engine/safetensors.js';

let folder = '';
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'longshadow-test-'));
});
after(async () => {
  await rm(folder, { recursive: true });
});

test('ids are read from an array and from an object', async () => {
  const path = join(folder, 'ids.json');
  await writeFile(path, '[0, 4294967295]');
  assert.deepEqual(await readTokenIds(path), [0, 0xffff_ffff]);
  await writeFile(path, '{"ids": [1, 2], "kind": "x"}');
  assert.deepEqual(await readTokenIds(path), [1, 2]);
});

const WRONG: readonly (readonly [string, ErrorCode, RegExp])[] = [
  ['[]', 'EMPTY_PROMPT', /empty/],
  ['{"tokens": [1]}', 'BAD_REQUEST', /JSON array/],
  ['null', 'BAD_REQUEST', /JSON array/],
  ['[1, -1]', 'TOKEN_ID_OUT_OF_RANGE', /ids\[1\] is -1/],
  ['[1.5]', 'TOKEN_ID_OUT_OF_RANGE', /ids\[0\] is 1\.5/],
  ['[4294967296]', 'TOKEN_ID_OUT_OF_RANGE', /4294967296/],
  ['["1"]', 'TOKEN_ID_OUT_OF_RANGE', /"1"/],
  ['[1', 'BAD_REQUEST', /ids\.json/],
];

for (const [text, code, message] of WRONG) {
  test(`ids file ${text} is refused as ${code}`, async () => {
    const path = join(folder, 'ids.json');
    await writeFile(path, text);
    await assert.rejects(readTokenIds(path), (error) => {
      assert.ok(error instanceof ServingError);
      assert.equal(error.code, code);
      assert.match(error.message, message);
      return true;
    });
  });
}

test('a missing ids file is named', async () => {
  await assert.rejects(readTokenIds(join(folder, 'absent.json')), /absent\.json/);
});

test('a safetensors file has an aligned header, the shape and the bits of the values', async () => {
  const path = join(folder, 'out.safetensors');
  const values = Float32Array.of(1, -0, Number.NaN, 3.5e-39, Infinity, 2);
  await writeSafetensors(path, { name: 'logits', shape: [2, 3], values });
  const bytes = await readFile(path);
  const headerBytes = Number(bytes.readBigUInt64LE(0));
  assert.equal(headerBytes % 8, 0);
  assert.deepEqual(JSON.parse(bytes.subarray(8, 8 + headerBytes).toString('utf8')), {
    logits: { dtype: 'F32', shape: [2, 3], data_offsets: [0, 24] },
  });
  assert.deepEqual(bytes.subarray(8 + headerBytes), Buffer.from(values.buffer));
});
