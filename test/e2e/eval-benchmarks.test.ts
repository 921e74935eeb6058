import assert from '../support/assert.js';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { startTestCluster, type TestCluster } from '../support/cluster.js';
import { readSamples } from '../support/eval-run.js';
import { runCli } from '../support/run.js';

/* Files of the published shapes, with texts of our own. */

const SENTENCE = 'One of the special magic numbers for dusty-drum is: 4839201.';
const CONTEXT = `${'The grass is green. '.repeat(60)}${SENTENCE}${' The sky is blue.'.repeat(60)}`;
const QUESTION = 'What is the special magic number for dusty-drum mentioned in the text above?';

describe('longshadow eval on published files', () => {
  const folder = mkdtempSync(join(tmpdir(), 'longshadow-eval-'));
  let servers: TestCluster;
  before(async () => {
    servers = await startTestCluster();
    mkdirSync(join(folder, 'longbench', 'data'), { recursive: true });
    const lines = [1, 2].map((at) => ({
      ...{ input: `${QUESTION} (${at})`, context: CONTEXT, answers: ['4839201'] },
      ...{ length: 300, dataset: 'hotpotqa', language: 'en', all_classes: null, _id: `${at}` },
    }));
    writeLines(join(folder, 'longbench', 'data', 'hotpotqa.jsonl'), lines);
    mkdirSync(join(folder, 'infinitebench'));
    writeLines(join(folder, 'infinitebench', 'passkey.jsonl'), [
      { id: 0, context: CONTEXT, input: QUESTION, answer: ['4839201'], options: [] },
    ]);
  });
  after(async () => {
    await servers.stop();
    rmSync(folder, { recursive: true });
  });

  for (const [name, task, questions] of [
    ['longbench', 'hotpotqa', 2],
    ['infinitebench', 'passkey', 1],
  ] as const) {
    test(`asks ${name}'s samples, cut to length, and reports on them`, async () => {
      const out = join(folder, `run-${name}`);
      const where = ['--router', servers.address, '--data', join(folder, name), '--out', out];
      const { stdout } = await runCli(['eval', name, ...where, '--lengths', '512']);
      const samples = readSamples(out);
      assert.equal(samples.length, questions);
      for (const sample of samples) {
        assert.equal(sample.task, task);
        assert.deepEqual(sample.references, ['4839201']);
        assert.ok(sample.promptTokens <= 512, `${sample.promptTokens} prompt tokens`);
      }
      assert.match(stdout, new RegExp(`\\| ${task} \\|.* dense \\|`));
      assert.equal(readFileSync(join(out, 'summary.md'), 'utf8').trim(), stdout.trim());
    });
  }
});

function writeLines(path: string, lines: readonly object[]): void {
  writeFileSync(path, lines.map((line) => `${JSON.stringify(line)}\n`).join(''));
}
