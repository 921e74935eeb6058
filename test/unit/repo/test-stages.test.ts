import assert from '../../support/assert.js';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';

test('a stage whose folder holds no tests fails instead of passing by silence', async () => {
  const { nodeTests } = (await import(
    new URL('../../../scripts/lib/test-stages.mjs', import.meta.url).href
  )) as { nodeTests: (folder: string) => Promise<unknown> };
  const folder = mkdtempSync(join(tmpdir(), 'longshadow-test-'));
  try {
    await assert.rejects(nodeTests(folder), /has no tests/);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
