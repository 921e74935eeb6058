import assert from '../../../support/assert.js';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { test } from 'node:test';
import { patternOf } from '../../../../services/domain/head-pattern.js';
import { ServingError } from '../../../../services/domain/serving-error.js';
import {
  checkPatternShape,
  parsePatterns,
} from '../../../../services/platform/patterns/parse-patterns.js';

const PUBLISHED = fileURLToPath(
  new URL('../../../../../shared/data/minference-configs', import.meta.url),
);
const skip = existsSync(PUBLISHED) ? false : `the published pattern files are not in ${PUBLISHED}`;

/** Layers, query heads, and heads of another pattern than vertical-slash. */
const SHAPES: Readonly<Record<string, readonly [number, number, number]>> = {
  GLM_4_9B_1M_instruct_kv_out_v32_fit_o_best_pattern: [40, 32, 0],
  Llama_3_8B_Instruct_262k_kv_out_v32_fit_o_best_pattern: [32, 32, 0],
  Llama_3_70B_Instruct_262k_kv_out_v32_fit_o_best_pattern: [80, 64, 0],
  'Llama_3.1_8B_Instruct_128k_kv_out_v32_fit_o_best_pattern': [32, 32, 0],
  'Llama_3.1_8B_Instruct_128k_kv_out_v32_fit_o_best_pattern_v2': [32, 32, 0],
  'Llama_3.1_70B_Instruct_128k_kv_out_v32_fit_o_best_pattern_v2': [80, 64, 0],
  Phi_3_mini_128k_instruct_kv_out_v32_fit_o_best_pattern: [32, 32, 43],
  'Qwen2.5_14B_Instruct_1M': [48, 40, 0],
  'Qwen2.5_32B_Instruct_128k_kv_out_v32_fit_o_best_pattern': [64, 40, 0],
  'Qwen2.5_72B_Instruct_128k_kv_out_v32_fit_o_best_pattern': [80, 64, 0],
  'Qwen2.5_7B_Instruct_128k_instruct_kv_out_v32_fit_o_best_pattern': [28, 28, 0],
  'Qwen2.5_7B_Instruct_1M': [28, 28, 0],
  Qwen2_7B_Instruct_128k_instruct_kv_out_v32_fit_o_best_pattern: [28, 28, 0],
  Yi_9B_200k_kv_out_v32_fit_o_best_pattern: [48, 32, 0],
};

test('the published pattern files are those that are known here', { skip }, () => {
  const files = readdirSync(PUBLISHED).filter((name) => name.endsWith('.json'));
  assert.deepEqual(
    files.sort(),
    Object.keys(SHAPES)
      .map((name) => `${name}.json`)
      .sort(),
  );
});

for (const [name, [layers, queryHeads, others]] of Object.entries(SHAPES)) {
  test(`${name} is read as it is: ${layers} layers of ${queryHeads} heads`, { skip }, () => {
    const path = join(PUBLISHED, `${name}.json`);
    const patterns = parsePatterns(readFileSync(path, 'utf8'), path);
    checkPatternShape(patterns, { layers, queryHeads }, path);
    const heads = patterns.flatMap((layer) => [...layer.values()]);
    assert.equal(heads.length, layers * queryHeads);
    assert.equal(heads.filter(({ pattern }) => pattern !== 'vertical-slash').length, others);
    for (const { columns, distances, tiles } of heads) {
      assert.ok(columns >= 30 && distances >= 100);
      assert.equal(tiles, null);
    }
  });
}

test(
  'the mapped file of Llama-3.1-8B has 512 columns and 2,048 distances everywhere',
  { skip },
  () => {
    const name = 'Llama_3.1_8B_Instruct_128k_kv_out_v32_fit_o_best_pattern_v2.json';
    const patterns = parsePatterns(readFileSync(join(PUBLISHED, name), 'utf8'), name);
    for (const heads of patterns) {
      for (const { columns, distances } of heads.values()) {
        assert.deepEqual([columns, distances], [512, 2_048]);
      }
    }
  },
);

const parse = (value: unknown) => parsePatterns(JSON.stringify(value), 'p.json');

test('each type becomes its pattern, and a head that is missing has the default', () => {
  const patterns = parse([
    {
      '0': ['vertical_and_slash', 30, 800, 0.5],
      '1': ['stream_llm', 100, 750, 7],
      '3': ['block_sparse', 100, 800, 0.9],
      '4': ['key_bounds', 100, 800, 0.9],
    },
  ]);
  const of = (head: number) => patternOf(patterns, 0, head);
  assert.deepEqual(of(0), { pattern: 'vertical-slash', columns: 30, distances: 800, tiles: null });
  assert.deepEqual(of(1), { pattern: 'a-shape', columns: 100, distances: 750, tiles: null });
  assert.deepEqual(of(2), { pattern: 'key-bounds', columns: 0, distances: 0, tiles: null });
  assert.deepEqual(of(3), { pattern: 'block-sparse', columns: 0, distances: 0, tiles: null });
  assert.deepEqual(patterns[0]?.get(4), of(2));
});

test('a layer may say how many key tiles its heads see, those that it does not name too', () => {
  const patterns = parse([
    { '0': ['vertical_and_slash', 30, 800, 0.5], tiles: { '0': 64, '2': 16 } },
  ]);
  assert.equal(patternOf(patterns, 0, 0).tiles, 64);
  assert.equal(patternOf(patterns, 0, 0).columns, 30);
  assert.equal(patternOf(patterns, 0, 1).tiles, null);
  assert.deepEqual(patternOf(patterns, 0, 2), {
    ...{ pattern: 'key-bounds', columns: 0, distances: 0, tiles: 16 },
  });
});

const VS = ['vertical_and_slash', 1000, 6096, 0.5];
const WRONG: readonly (readonly [string, unknown, RegExp])[] = [
  ['no list', { '0': VS }, /p\.json: must be a list with an object a layer/],
  ['no layer', [], /p\.json: has no layer/],
  ['a layer that is no object', [{ '0': VS }, null], /layer 1: must be an object of heads/],
  [
    'a type that nobody knows',
    [{ '7': ['vertical', 1, 1, 0] }],
    /layer 0, head 7, type: .*stream_llm/,
  ],
  ['a negative budget', [{}, { '4': ['stream_llm', 1, -1, 0] }], /layer 1, head 4, b: .*from 0/],
  ['no nearest key', [{ '4': ['stream_llm', 1, 0, 0] }], /layer 0, head 4, b: .*1 nearest key/],
  ['half a column', [{ '4': ['stream_llm', 0.5, 1, 0] }], /layer 0, head 4, a: .*whole number/],
  ['a budget in words', [{ '4': ['stream_llm', 'all', 1, 0] }], /layer 0, head 4, a: .*whole/],
  ['a budget past 32 bits', [{ '4': ['stream_llm', 2 ** 32, 1, 0] }], /layer 0, head 4, a: /],
  ['a head without its score', [{ '4': ['stream_llm', 1, 1] }], /layer 0, head 4/],
  ['a head of five parts', [{ '4': ['stream_llm', 1, 1, 0, 0] }], /layer 0, head 4/],
  [
    'a head that is an object',
    [{ '4': { type: 'stream_llm' } }],
    /layer 0, head 4: must be \[type/,
  ],
  ['a head that is no number', [{ q4: VS }], /layer 0: "q4" is no query head/],
  ['a head with a leading zero', [{ '04': VS }], /layer 0: "04" is no query head/],
  ['no tile at all', [{ tiles: { '3': 0 } }], /layer 0, head 3, tiles: .*from 1 to 65536/],
  ['too many tiles', [{ tiles: { '3': 65_537 } }], /layer 0, head 3, tiles: .*from 1 to 65536/],
  ['half a tile', [{ tiles: { '3': 1.5 } }], /layer 0, head 3, tiles: .*whole number/],
  ['tiles of no head', [{ tiles: { all: 3 } }], /layer 0: "all" is no query head/],
  ['tiles that are no object', [{ tiles: 64 }], /layer 0, tiles: must be/],
];
for (const [what, value, problem] of WRONG) {
  test(`a pattern file with ${what} is refused, naming the place`, () => {
    assert.throws(() => parse(value), refusedWith(problem));
  });
}

test('a pattern file that is no JSON is refused', () => {
  assert.throws(() => parsePatterns('[{', 'p.json'), refusedWith(/p\.json: is not JSON/));
});

test('patterns of a model with other layers or fewer heads are refused', () => {
  const patterns = parse([{ '0': VS }, { '9': VS }]);
  checkPatternShape(patterns, { layers: 2, queryHeads: 10 }, 'p.json');
  assert.throws(
    () => {
      checkPatternShape(patterns, { layers: 3, queryHeads: 10 }, 'p.json');
    },
    refusedWith(/has 2 layers, and the model has 3; choose the file/),
  );
  assert.throws(
    () => {
      checkPatternShape(patterns, { layers: 2, queryHeads: 9 }, 'p.json');
    },
    refusedWith(/layer 1, head 9: the model's last query head is 8/),
  );
});

function refusedWith(problem: RegExp) {
  return (error: unknown): boolean => {
    assert.ok(error instanceof ServingError);
    assert.equal(error.code, 'MODEL_INVALID');
    assert.match(error.message, problem);
    return true;
  };
}
