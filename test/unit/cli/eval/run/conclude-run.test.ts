import assert from '../../../../support/assert.js';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { concludeRun } from '../../../../../services/cli/eval/run/conclude-run.js';
import { RunFolder } from '../../../../../services/cli/eval/run/run-folder.js';
import { PLAN, sampleOf } from './run-samples.js';

describe('The end of a run', () => {
  let path: string;
  beforeEach(() => {
    path = mkdtempSync(join(tmpdir(), 'longshadow-run-'));
  });
  afterEach(() => {
    rmSync(path, { recursive: true });
  });

  async function conclude(samples: number, failure: Error | null): Promise<string> {
    const folder = await RunFolder.open(path, PLAN);
    for (let at = 0; at < samples; at += 1) await folder.add(sampleOf('a', `q${String(at)}`));
    const [stdout, stderr] = [new PassThrough(), new PassThrough()];
    const ended = await concludeRun({ folder, total: 2, failure }, 'again', stdout, stderr).then(
      () => 'no failure',
      (error: unknown) => error,
    );
    if (failure !== null) assert.equal(ended, failure);
    return String(stdout.read() ?? '');
  }

  test('that failed in the middle reports what there is, says so, and fails', async () => {
    assert.equal(await conclude(2, new Error('the texts have no room')), '');
    const report = readFileSync(join(path, 'summary.md'), 'utf8');
    assert.match(report, /not complete, documents finished: 0 of 2/);
    assert.match(report, /\| needle \| 4K \| dense \| 1 \| 2 \|/);
  });

  test('that failed before an answer writes no report', async () => {
    await conclude(0, new Error('the cluster is away'));
    assert.ok(!existsSync(join(path, 'summary.md')));
  });

  test('that is complete prints its tables', async () => {
    assert.match(await conclude(2, null), /\| needle \| 4K \| dense \| 1 \| 2 \|/);
    assert.doesNotMatch(readFileSync(join(path, 'summary.md'), 'utf8'), /not complete/);
  });
});
