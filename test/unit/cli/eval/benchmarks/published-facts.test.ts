import assert from '../../../../support/assert.js';
import { existsSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { benchmarkTasks } from '../../../../../services/cli/eval/benchmarks/load-benchmark.js';

const FOLDER = '../shared/data/long-benchmarks';
const skip = existsSync(FOLDER) ? false : `no ${FOLDER}: no published prompts to compare with`;

interface Fact {
  readonly prompt: string;
  readonly max_new_tokens: number;
  readonly metric: string;
  readonly 'prompt_base (yarn-mistral, yi, chatglm3)': string;
  readonly 'prompt_chat (gpt4)': string;
}

function facts(benchmark: string): Record<string, Fact> {
  const text = readFileSync(`${FOLDER}/${benchmark}.json`, 'utf8');
  return (JSON.parse(text) as { tasks: Record<string, Fact> }).tasks;
}

test('InfiniteBench has the published tasks, prompts and limits', { skip }, () => {
  const published = facts('infinitebench');
  const base = benchmarkTasks('infinitebench', 'base');
  assert.deepEqual(base.map(({ name }) => name).sort(), Object.keys(published).sort());
  for (const { name, template, maxNewTokens } of base) {
    assert.equal(template, published[name]?.['prompt_base (yarn-mistral, yi, chatglm3)'], name);
    assert.equal(maxNewTokens, published[name]?.max_new_tokens, name);
  }
  for (const { name, template, maxNewTokens } of benchmarkTasks('infinitebench', 'chat')) {
    assert.equal(template, published[name]?.['prompt_chat (gpt4)'], name);
    assert.ok(maxNewTokens >= (published[name]?.max_new_tokens ?? Infinity), name);
  }
});

test('LongBench has the published tasks, prompts, limits and metrics', { skip }, () => {
  const published = facts('longbench');
  const tasks = benchmarkTasks('longbench');
  assert.deepEqual(tasks.map(({ name }) => name).sort(), Object.keys(published).sort());
  for (const { name, template, maxNewTokens, metric } of tasks) {
    const fact = published[name];
    assert.equal(template, fact?.prompt, name);
    assert.equal(maxNewTokens, fact?.max_new_tokens, name);
    const ours = metric.replace('_first_line', '').replace('code_similarity', 'code_sim');
    assert.equal(ours, fact?.metric, name);
  }
});

test('first lines alone count, and no chat template is used, for the tasks published so', () => {
  const tasks = benchmarkTasks('longbench');
  const named = (keep: (task: (typeof tasks)[number]) => boolean): string[] =>
    tasks.filter(keep).map(({ name }) => name);
  assert.deepEqual(
    named(({ metric }) => metric === 'classification' || metric.endsWith('_first_line')),
    ['trec', 'triviaqa', 'samsum', 'lsht'],
  );
  assert.deepEqual(
    named(({ chat }) => !chat),
    ['trec', 'triviaqa', 'samsum', 'lsht', 'lcc', 'repobench-p'],
  );
});
