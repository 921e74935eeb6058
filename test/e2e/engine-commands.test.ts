import assert from '../support/assert.js';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import {
  greedyTokens,
  promptLogits,
  type EngineChoice,
} from '../../services/cli/engine/scratch-run.js';
import { needleSample } from '../support/needle-samples.js';
import { NEEDLE_MODEL } from '../support/cluster.js';
import { readSafetensors } from '../support/read-safetensors.js';
import { runCli } from '../support/run.js';

/** Against Hugging Face's logits in fp32 on the same bf16 weights. */
const LOGIT_TOLERANCE = 2e-3;
/** Two tokens whose logits are closer than this are a tie. */
const TIE_GAP = 0.05;

const MODELS = ['llama3-gqa', 'llama31-rope-scaled', 'llama-hd128', 'yi-tied'];
const REFERENCE = join(import.meta.dirname, '../../../shared/reference');
const VECTORS = join(REFERENCE, 'hf-vectors-dev.tar.gz');
const STORIES = join(REFERENCE, 'stories260K');

let folder: string;
before(() => {
  folder = mkdtempSync(join(tmpdir(), 'longshadow-test-'));
});
after(() => {
  rmSync(folder, { recursive: true, force: true });
});

function idsFile(ids: readonly number[]): string {
  const path = join(folder, `ids-${ids.length}.json`);
  writeFileSync(path, JSON.stringify({ ids }));
  return path;
}

async function greedy(
  model: string,
  ids: readonly number[],
  args: readonly string[],
): Promise<number[]> {
  const { stdout } = await runCli(['greedy', '--model', model, '--ids', idsFile(ids), ...args]);
  return (JSON.parse(stdout) as { ids: number[] }).ids;
}

async function logits(
  model: string,
  ids: readonly number[],
  rows: readonly number[],
  args: readonly string[],
): Promise<{ shape: readonly number[]; values: Float32Array }> {
  const out = join(folder, 'logits.safetensors');
  await runCli([
    'logits',
    '--model',
    model,
    '--ids',
    idsFile(ids),
    '--rows',
    rows.join(','),
    '--out',
    out,
    ...args,
  ]);
  return readSafetensors(out, 'logits');
}

describe(
  "logits and greedy against Hugging Face's",
  { skip: existsSync(VECTORS) ? false : `${VECTORS} is absent` },
  () => {
    before(() => {
      execFileSync('tar', ['-xzf', VECTORS, '-C', folder]);
      // The models that made the vectors had been cast to bf16 as a whole, rope frequencies
      // included; see test/native/hf_vectors_test.cc.
      for (const name of MODELS) {
        const path = join(folder, 'hf-vectors-dev', name, 'config.json');
        const config = JSON.parse(readFileSync(path, 'utf8')) as object;
        writeFileSync(path, JSON.stringify({ ...config, rope_frequency_dtype: 'bfloat16' }));
      }
    });

    for (const name of MODELS) {
      test(`${name}: fp32 logits and greedy tokens, in one chunk, chunks of 64 and of 1,000`, async () => {
        const model = join(folder, 'hf-vectors-dev', name);
        const { runs } = JSON.parse(readFileSync(join(model, 'expected.json'), 'utf8')) as {
          runs: {
            length: number;
            input_ids: number[];
            logit_rows: number[];
            logits_tensor: string;
            greedy_16: number[];
          }[];
        };
        for (const {
          input_ids: ids,
          logit_rows: rows,
          logits_tensor: tensor,
          greedy_16: expected,
        } of runs) {
          const reference = readSafetensors(join(model, 'logits.safetensors'), tensor);
          // A chunk as long as the prompt or longer is the same run again.
          for (const chunk of [0, 64, 1_000].filter((tokens) => tokens < ids.length)) {
            // Through the command once a model, else by the function behind it.
            const byCommand = ids.length === 300 && chunk === 64;
            const ours = await (byCommand
              ? logits(model, ids, rows, ['--dtype', 'fp32', '--chunk', '64'])
              : directLogits(model, ids, rows, chunk));
            assert.deepEqual(ours.shape, reference.shape);
            const error = ours.values.reduce(
              (most, value, place) =>
                Math.max(most, Math.abs(value - (reference.values[place] ?? NaN))),
              0,
            );
            assert.ok(error <= LOGIT_TOLERANCE, `${ids.length} tokens, chunk ${chunk}: ${error}`);
          }
          const tokens = await greedyTokens(fp32(model, 64), ids, 16, false);
          await assertSameOrTie(model, ids, tokens, expected);
        }
      });
    }

    test('the reference device agrees', async () => {
      const model = join(folder, 'hf-vectors-dev', 'llama3-gqa');
      const ids = needleSample(0)
        .prompt.slice(0, 40)
        .map((id) => id % 512);
      const args = ['--dtype', 'fp32'];
      const ours = await logits(model, ids, [3, 39], [...args, '--device', 'cpu']);
      const reference = await logits(
        model,
        ids,
        [3, 39],
        [...args, '--device', 'reference', '--chunk', '16'],
      );
      assert.deepEqual(reference.shape, [2, 512]);
      for (const [place, value] of ours.values.entries()) {
        assert.ok(Math.abs(value - (reference.values[place] ?? NaN)) <= LOGIT_TOLERANCE);
      }
    });
  },
);

const fp32 = (modelDirectory: string, chunkTokens: number): EngineChoice => ({
  modelDirectory,
  device: 'cpu',
  dtype: 'fp32',
  chunkTokens,
});

async function directLogits(
  model: string,
  ids: readonly number[],
  rows: readonly number[],
  chunk: number,
): Promise<{ shape: readonly number[]; values: Float32Array }> {
  const { values, vocabSize } = await promptLogits(fp32(model, chunk), ids, rows);
  return { shape: [rows.length, vocabSize], values };
}

/** Greedy sequences may part only where the two best logits are a tie. */
async function assertSameOrTie(
  model: string,
  ids: readonly number[],
  actual: readonly number[],
  expected: readonly number[],
): Promise<void> {
  const parts = expected.findIndex((id, place) => actual[place] !== id);
  if (parts < 0) {
    assert.equal(actual.length, expected.length);
    return;
  }
  const whole = [...ids, ...expected.slice(0, parts)];
  const { values } = await directLogits(model, whole, [whole.length - 1], 0);
  const gap = Math.abs(
    (values[actual[parts] ?? -1] ?? NaN) - (values[expected[parts] ?? -1] ?? NaN),
  );
  assert.ok(
    gap < TIE_GAP,
    `token ${parts}: ${actual[parts]}, not ${expected[parts]}; logit gap ${gap}`,
  );
}

test(
  'stories260K gives its golden ids',
  { skip: existsSync(STORIES) ? false : `${STORIES} is absent` },
  async () => {
    const { cases } = JSON.parse(readFileSync(join(STORIES, 'golden.json'), 'utf8')) as {
      cases: { prompt: string; prompt_ids: number[]; greedy_ids: number[] }[];
    };
    for (const { prompt, prompt_ids: ids, greedy_ids: expected } of cases) {
      const args = ['--count', String(expected.length), '--dtype', 'fp32'];
      assert.deepEqual(await greedy(STORIES, ids, args), expected, prompt);
    }
  },
);

test('greedy gives the needle in bf16 too, and stops at the end id only if asked', async () => {
  const { prompt, answer } = needleSample(0);
  const free = await greedy(NEEDLE_MODEL, prompt, ['--count', '12', '--chunk', '512']);
  assert.equal(free.length, 12);
  assert.deepEqual(free.slice(0, answer.length), answer);
  const stopped = await greedy(NEEDLE_MODEL, prompt, ['--count', '12', '--stop-at-eos']);
  assert.deepEqual(stopped, [...answer, 3]);
});

test('rows may come in any order and twice; the default is the last', async () => {
  const ids = needleSample(0).prompt.slice(0, 100);
  const some = await logits(NEEDLE_MODEL, ids, [99, 5, 99], ['--chunk', '32']);
  assert.deepEqual(some.shape, [3, 4_096]);
  const row = (place: number): Float32Array =>
    some.values.subarray(place * 4_096, (place + 1) * 4_096);
  assert.deepEqual(row(0), row(2));
  assert.notDeepEqual(row(0), row(1));
  const out = join(folder, 'last.safetensors');
  await runCli([
    'logits',
    '--model',
    NEEDLE_MODEL,
    '--ids',
    idsFile(ids),
    '--out',
    out,
    '--chunk',
    '32',
  ]);
  assert.deepEqual(readSafetensors(out, 'logits').values, row(0).slice());
});

test('an id outside the vocabulary and a row outside the prompt are refused', async () => {
  const args = ['--model', NEEDLE_MODEL, '--out', join(folder, 'x')];
  const id = await runCli(['logits', ...args, '--ids', idsFile([1, 4_096])], { expectCode: 1 });
  assert.match(id.stderr, /^error: TOKEN_ID_OUT_OF_RANGE: ids\[1\] is 4096; .* 4095/);
  const row = await runCli(['logits', ...args, '--ids', idsFile([1, 2, 3]), '--rows', '3'], {
    expectCode: 1,
  });
  assert.match(row.stderr, /^error: BAD_REQUEST: row 3 /);
});
