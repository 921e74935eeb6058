import assert from '../../../support/assert.js';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { ServingError } from '../../../../services/domain/serving-error.js';
import {
  loadPatterns,
  type LoadedPatterns,
} from '../../../../services/platform/patterns/load-patterns.js';

let folder: string;
before(() => {
  folder = mkdtempSync(join(tmpdir(), 'longshadow-patterns-'));
});
after(() => {
  rmSync(folder, { recursive: true, force: true });
});

async function load(text: string): Promise<LoadedPatterns> {
  const path = join(folder, 'some.json');
  writeFileSync(path, text);
  return loadPatterns(folder, path);
}

test('a folder without a file has default patterns, those of an empty file', async () => {
  const none = await loadPatterns(folder, null);
  assert.equal(none.path, null);
  assert.match(none.sha256, /^[0-9a-f]{64}$/);
  assert.equal((await load('[{}, {}]')).sha256, none.sha256);
  const spelledOut = await load('[{"3": ["key_bounds", 1000, 6096, 0.7]}]');
  assert.equal(spelledOut.sha256, none.sha256);
});

test('no file has not the digest that it had while its heads were vertical-slash', async () => {
  const withoutDefault = createHash('sha256').update('[]').digest('hex');
  assert.notEqual((await loadPatterns(folder, null)).sha256, withoutDefault);
});

test('a named pipe is refused instead of waited for', async () => {
  const path = join(folder, 'pipe');
  execFileSync('mkfifo', [path]);
  await assert.rejects(loadPatterns(folder, path), /is not a regular file/);
});

test("a model's folder has them in minference.json", async () => {
  const model = mkdtempSync(join(folder, 'model-'));
  const path = join(model, 'minference.json');
  writeFileSync(path, '[{"0": ["stream_llm", 64, 1024, 0]}]');
  const found = await loadPatterns(model, null);
  assert.equal(found.path, path);
  assert.equal(found.patterns[0]?.get(0)?.pattern, 'a-shape');
});

test('the digest is of what the patterns say, not of how, or how well, they were found', async () => {
  const one = await load('[{"0": ["stream_llm", 64, 1024, 0.25], "1": ["block_sparse", 1, 1, 0]}]');
  const same = await load('[ {"1":["block_sparse",7,8,3], "0" : ["stream_llm",64,1024,99]} ]');
  assert.equal(same.sha256, one.sha256);
  const others = [
    '[{"0": ["stream_llm", 65, 1024, 0.25], "1": ["block_sparse", 1, 1, 0]}]',
    '[{"0": ["stream_llm", 64, 1023, 0.25], "1": ["block_sparse", 1, 1, 0]}]',
    '[{"0": ["vertical_and_slash", 64, 1024, 0.25], "1": ["block_sparse", 1, 1, 0]}]',
    '[{"0": ["stream_llm", 64, 1024, 0.25], "1": ["key_bounds", 1, 1, 0]}]',
    '[{"0": ["stream_llm", 64, 1024, 0.25], "2": ["block_sparse", 1, 1, 0]}]',
    '[{}, {"0": ["stream_llm", 64, 1024, 0.25], "1": ["block_sparse", 1, 1, 0]}]',
    '[{"0": ["stream_llm", 64, 1024, 0.25], "1": ["block_sparse", 1, 1, 0], "tiles": {"0": 8}}]',
  ];
  const digests = new Set<string>([one.sha256]);
  for (const text of others) digests.add((await load(text)).sha256);
  assert.equal(digests.size, others.length + 1);
});

test('a file that was named must be there, be a file, and have a bearable size', async () => {
  await assert.rejects(loadPatterns(folder, join(folder, 'absent.json')), refusedWith(/ENOENT/));
  await assert.rejects(loadPatterns(folder, folder), refusedWith(/not a regular file/));
  const large = join(folder, 'large.json');
  writeFileSync(large, '');
  truncateSync(large, 2 ** 23 + 1);
  await assert.rejects(loadPatterns(folder, large), refusedWith(/longer than 8388608 bytes/));
});

function refusedWith(problem: RegExp) {
  return (error: unknown): boolean => {
    assert.ok(error instanceof ServingError);
    assert.equal(error.code, 'MODEL_INVALID');
    assert.match(error.message, problem);
    return true;
  };
}
