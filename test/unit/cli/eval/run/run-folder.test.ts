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
import type { RunPlan } from '../../../../../services/cli/eval/run/run-plan.js';
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
