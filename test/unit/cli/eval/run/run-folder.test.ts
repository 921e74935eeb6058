import assert from '../../../../support/assert.js';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  appendFileSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { RunFolder } from '../../../../../services/cli/eval/run/run-folder.js';
import type { PlanThresholds, RunPlan } from '../../../../../services/cli/eval/run/run-plan.js';
import type { SparseThresholds } from '../../../../../services/cli/rpc/sparse-thresholds.js';
import { PLAN, sampleOf } from './run-samples.js';

describe('The folder of a run', () => {
  let path: string;
  beforeEach(() => {
    path = mkdtempSync(join(tmpdir(), 'longshadow-run-'));
  });
  afterEach(() => {
    rmSync(path, { recursive: true });
  });

  async function write(): Promise<void> {
    const folder = await RunFolder.open(path, PLAN);
    await folder.add(sampleOf('a', 'q0'));
    await folder.add(sampleOf('a', 'q1'));
    await folder.finish('a', 'dense', 2);
    await folder.add(sampleOf('b', 'q0'));
    await folder.close();
  }

  async function reopened<T>(look: (folder: RunFolder) => T, plan = PLAN): Promise<T> {
    const folder = await RunFolder.open(path, plan);
    const seen = look(folder);
    await folder.close();
    return seen;
  }

  test('gives back what was written, and knows which documents are finished', async () => {
    await write();
    await reopened((folder) => {
      assert.deepEqual(folder.samples, [
        sampleOf('a', 'q0'),
        sampleOf('a', 'q1'),
        sampleOf('b', 'q0'),
      ]);
      assert.equal(folder.finishedDocuments, 1);
      assert.ok(folder.isFinished('a', 'dense'));
      assert.ok(!folder.isFinished('b', 'dense'));
      assert.ok(!folder.isFinished('a', 'minference'));
      assert.ok(folder.hasSample('b', 'dense', 'q0'));
      assert.ok(!folder.hasSample('b', 'dense', 'q1'));
    });
  });

  test('cuts off a torn last line, and goes on after it', async () => {
    await write();
    const before = readFileSync(join(path, 'results.jsonl'), 'utf8');
    appendFileSync(join(path, 'results.jsonl'), JSON.stringify(sampleOf('b', 'q1')).slice(0, -9));
    appendFileSync(join(path, 'finished.jsonl'), '{"documentId":"b"');
    const folder = await RunFolder.open(path, PLAN);
    assert.equal(readFileSync(join(path, 'results.jsonl'), 'utf8'), before);
    assert.ok(!folder.hasSample('b', 'dense', 'q1'));
    await folder.add(sampleOf('b', 'q1'));
    await folder.finish('b', 'dense', 2);
    await folder.close();
    assert.equal(await reopened(({ samples }) => samples.length), 4);
    assert.equal(await reopened(({ finishedDocuments }) => finishedDocuments), 2);
  });

  test('asks a document again whose samples are not all there', async () => {
    await write();
    const file = join(path, 'results.jsonl');
    writeFileSync(file, readFileSync(file, 'utf8').split('\n').slice(1).join('\n'));
    assert.ok(!(await reopened((folder) => folder.isFinished('a', 'dense'))));
  });

  test('keeps lines whole that are added at the same time', async () => {
    const folder = await RunFolder.open(path, PLAN);
    const ids = Array.from({ length: 50 }, (_, at) => `q${at}`);
    await Promise.all(ids.map(async (id) => folder.add(sampleOf('a', id))));
    await folder.close();
    const read = await reopened(({ samples }) => samples.map(({ questionId }) => questionId));
    assert.deepEqual(read, ids);
  });

  test('refuses another plan and says what differs', async () => {
    await write();
    await assert.rejects(
      RunFolder.open(path, { ...PLAN, seed: 2, options: { depths: 6 } }),
      /another plan: seed was 1, now 2; depths was 5, now 6/,
    );
  });

  test('takes another plan while it holds no sample', async () => {
    await reopened(() => null);
    await reopened(() => null, { ...PLAN, seed: 2 });
    const read = JSON.parse(readFileSync(join(path, 'run.json'), 'utf8')) as RunPlan;
    assert.equal(read.seed, 2);
  });

  describe('with what the cluster resolved', () => {
    const flex = { gamma: 0.95, tau: 0.1, minTiles: 8, tilesOverrideFile: false };
    const resolved = {
      ...{ tilesPerBlock: 32, denseBelowTokens: 8_192, patternsSha256: 'a'.repeat(64), ...flex },
    };

    async function resolvedTo(thresholds: PlanThresholds): Promise<void> {
      const folder = await RunFolder.open(path, PLAN);
      try {
        await folder.resolve(thresholds);
        await folder.add(sampleOf('a', `q${folder.samples.length}`));
      } finally {
        await folder.close();
      }
    }

    test('goes on with the same, and needs none to be read', async () => {
      await resolvedTo({ minference: resolved });
      await resolvedTo({ minference: resolved });
      assert.deepEqual(await reopened(({ plan }) => plan.thresholds), { minference: resolved });
      assert.equal(await reopened(({ samples }) => samples.length), 2);
    });

    test('takes others while it holds no sample', async () => {
      const folder = await RunFolder.open(path, PLAN);
      await folder.resolve({ minference: resolved });
      await folder.close();
      await resolvedTo({ minference: { ...resolved, tilesPerBlock: 33 } });
    });

    const others: readonly (readonly [Partial<SparseThresholds>, RegExp])[] = [
      [{ tilesPerBlock: 64 }, /tilesPerBlock of minference was 32, now 64/],
      [{ tilesOverrideFile: true }, /tilesOverrideFile of minference was false, now true/],
      [{ denseBelowTokens: 0 }, /denseBelowTokens of minference was 8192, now 0/],
      [{ patternsSha256: 'b'.repeat(64) }, /patternsSha256 of minference was aaa.*, now bbb/],
      [{ patternsSha256: '' }, /patternsSha256 of minference was aaa.*, now none/],
      [{ gamma: 0.9 }, /gamma of minference was 0\.95, now 0\.9/],
      [{ tau: 0.2 }, /tau of minference/],
      [{ minTiles: 4 }, /minTiles of minference/],
    ];
    for (const [change, what] of others) {
      test(`refuses another ${Object.keys(change).join()} and says what to change`, async () => {
        await resolvedTo({ minference: resolved });
        const other = resolvedTo({ minference: { ...resolved, ...change } });
        await assert.rejects(other, { code: 'BAD_REQUEST', message: what });
        await assert.rejects(resolvedTo({ minference: { ...resolved, ...change } }), {
          message: /give another folder, or start the cluster with the thresholds and the pattern/,
        });
        assert.equal(await reopened(({ samples }) => samples.length), 1);
      });
    }

    test('refuses samples of which it is not known what made them', async () => {
      await write();
      const unknown = resolvedTo({ minference: resolved });
      await assert.rejects(unknown, /tilesPerBlock of minference was unset, now 32/);
    });
  });

  test("refuses a folder with somebody else's files", async () => {
    writeFileSync(join(path, 'thesis.tex'), '');
    await assert.rejects(RunFolder.open(path, PLAN), /--out .* holds other files/);
  });

  test('names a whole line that is none', async () => {
    await write();
    appendFileSync(join(path, 'results.jsonl'), 'oops\n');
    await assert.rejects(RunFolder.open(path, PLAN), /results\.jsonl:4 is not a line of a run/);
  });

  test('names file, line and field of a sample or finished document that is none', async () => {
    await write();
    const finished = readFileSync(join(path, 'finished.jsonl'), 'utf8');
    appendFileSync(join(path, 'finished.jsonl'), '{"documentId":"b","policy":"dense"}\n');
    const refused = RunFolder.open(path, PLAN);
    await assert.rejects(refused, /finished\.jsonl:2 is not a finished document .*samples: /);
    writeFileSync(join(path, 'finished.jsonl'), finished);
    appendFileSync(
      join(path, 'results.jsonl'),
      `${JSON.stringify({ ...sampleOf('b', 'q1'), score: '1' })}\n`,
    );
    await assert.rejects(RunFolder.open(path, PLAN), {
      code: 'BAD_REQUEST',
      message: /results\.jsonl:4 is not a sample of a run \(score: /,
    });
  });

  test('is that of one run at a time', async () => {
    const folder = await RunFolder.open(path, PLAN);
    await assert.rejects(RunFolder.open(path, PLAN), {
      code: 'BAD_REQUEST',
      message: new RegExp(`process ${process.pid} on .* runs in the folder`),
    });
    await folder.close();
    await reopened(() => null);
  });

  test('is refused while another process runs in it, and taken over when that is dead', async () => {
    await write();
    const other = spawn(process.execPath, ['-e', 'setInterval(() => 0, 1000)']);
    const lock = join(path, 'run.lock');
    writeFileSync(lock, JSON.stringify({ pid: other.pid, host: hostname() }));
    await assert.rejects(RunFolder.open(path, PLAN), new RegExp(`process ${other.pid} on`));
    const ended = once(other, 'close');
    other.kill('SIGKILL');
    await ended;
    assert.equal(await reopened(({ samples }) => samples.length), 3);
    assert.ok(!existsSync(lock));
  });

  test('takes over a lock that a crash left empty', async () => {
    writeFileSync(join(path, 'run.lock'), '');
    await write();
    assert.equal(await reopened(({ samples }) => samples.length), 3);
  });
});
