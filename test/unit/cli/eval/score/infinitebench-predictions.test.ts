import assert from '../../../../support/assert.js';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { MetricName } from '../../../../../services/cli/eval/eval-types.js';
import { score } from '../../../../../services/cli/eval/score/score.js';

/** The first 25 recorded predictions of two models for ten tasks of InfiniteBench. */
const FOLDER = '../shared/data/long-benchmarks/infinitebench_predictions';
const skip = existsSync(FOLDER) ? false : `no ${FOLDER}: no recorded predictions`;

interface Line {
  readonly prediction: string;
  readonly ground_truth: unknown;
}

function scoresOf(model: string, task: string, metric: MetricName): number[] {
  const text = readFileSync(join(FOLDER, model, `preds_${task}.first25.jsonl`), 'utf8');
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => {
      const { prediction, ground_truth: truth } = JSON.parse(line) as Line;
      return score(metric, prediction, [truth].flat().map(String));
    });
}

/**
 * Per sample, 1 for right: worked out by a transcript of the published rules in another language,
 * run once over the same lines. `published` is the task's score over all `samples`, per cent, from
 * the benchmark's own table; null where it says "< 5".
 */
const EXACT: readonly {
  readonly task: string;
  readonly metric: MetricName;
  readonly samples: number;
  readonly models: Readonly<Record<string, { marks: string; published: number | null }>>;
}[] = [
  {
    task: 'passkey',
    metric: 'first_number',
    samples: 590,
    models: {
      gpt4: { marks: '1'.repeat(25), published: 100 },
      'yi-34b-200k': { marks: '1'.repeat(25), published: 100 },
    },
  },
  {
    task: 'number_string',
    metric: 'first_number',
    samples: 590,
    models: {
      gpt4: { marks: '1'.repeat(25), published: 100 },
      'yi-34b-200k': { marks: '1'.repeat(25), published: 100 },
    },
  },
  {
    task: 'kv_retrieval',
    metric: 'kv_retrieval',
    samples: 500,
    models: {
      gpt4: { marks: '1111011111111111111111111', published: 89 },
      'yi-34b-200k': { marks: '0'.repeat(25), published: null },
    },
  },
  {
    task: 'code_run',
    metric: 'last_integer',
    samples: 400,
    models: {
      gpt4: { marks: '1110011111011111011101001', published: 23.25 },
      'yi-34b-200k': { marks: '0'.repeat(25), published: null },
    },
  },
  {
    task: 'code_debug',
    metric: 'code_debug',
    samples: 394,
    models: {
      gpt4: { marks: '0000000000000100100010011', published: 37.06 },
      'yi-34b-200k': { marks: '0'.repeat(25), published: 13.96 },
    },
  },
  {
    task: 'math_find',
    metric: 'math_find',
    samples: 350,
    models: {
      gpt4: { marks: '1'.repeat(25), published: 60 },
      'yi-34b-200k': { marks: '0111111111111111101111110', published: 25.71 },
    },
  },
  {
    task: 'longbook_choice_eng',
    metric: 'choice',
    samples: 229,
    models: {
      gpt4: { marks: '1001011111111011111111111', published: 67.25 },
      'yi-34b-200k': { marks: '1101100010001011011010010', published: 38.43 },
    },
  },
  {
    task: 'longdialogue_qa_eng',
    metric: 'dialogue_name',
    samples: 200,
    models: {
      gpt4: { marks: '0000000000100001001000000', published: 8.5 },
      'yi-34b-200k': { marks: '0000010000100000000000001', published: null },
    },
  },
];

for (const { task, metric, samples, models } of EXACT) {
  test(`${task}: recorded predictions are marked as by the published rules`, { skip }, () => {
    for (const [model, { marks, published }] of Object.entries(models)) {
      const scores = scoresOf(model, task, metric);
      assert.equal(scores.join(''), marks, model);
      // 25 lines cannot give the score of all. They bound it, and where it is 100 % they decide.
      const right = scores.reduce((sum, mark) => sum + mark, 0);
      const wrong = scores.length - right;
      assert.ok((100 * right) / samples <= (published ?? 5), `${model}: too many right`);
      assert.ok(
        (100 * (samples - wrong)) / samples >= (published ?? 0),
        `${model}: too many wrong`,
      );
    }
  });
}

test(
  'passkey and number_string reach their published 100 % on every recorded line',
  { skip },
  () => {
    for (const task of ['passkey', 'number_string']) {
      for (const model of ['gpt4', 'yi-34b-200k']) {
        assert.ok(scoresOf(model, task, 'first_number').every((mark) => mark === 1));
      }
    }
  },
);

/** Sums of 25 F1 values, from the same transcript. Published: 22.44 and 12.17, 25.96 and 13.61 %. */
const F1_SUMS = [
  { task: 'longbook_qa_eng', metric: 'qa_f1', model: 'gpt4', sum: 4.460172 },
  { task: 'longbook_qa_eng', metric: 'qa_f1', model: 'yi-34b-200k', sum: 2.364589 },
  { task: 'longbook_qa_chn', metric: 'character_f1_zh', model: 'gpt4', sum: 5.767967 },
  { task: 'longbook_qa_chn', metric: 'character_f1_zh', model: 'yi-34b-200k', sum: 3.89307 },
] as const;

for (const { task, metric, model, sum } of F1_SUMS) {
  test(
    `${task}: the F1 of ${model}'s recorded answers is that of the published rules`,
    { skip },
    () => {
      const scores = scoresOf(model, task, metric);
      assert.equal(scores.length, 25);
      const got = scores.reduce((total, f1) => total + f1, 0);
      assert.ok(Math.abs(got - sum) < 1e-6, `${got} for ${sum}`);
    },
  );
}
