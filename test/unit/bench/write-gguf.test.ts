import assert from '../../support/assert.js';
import { randomBytes } from 'node:crypto';
import { describe, test } from 'node:test';
import { parseBpeTokenizer, parseLlamaConfig } from '../../bench/llama-cpp/gguf/llama-config.js';
import {
  pairRotaryRows,
  widenBf16,
  writeGguf,
  type LlamaModel,
  type SourceTensor,
} from '../../bench/llama-cpp/gguf/write-gguf.js';
import { readGguf } from './read-gguf.js';

const HIDDEN = 12;
const FFN = 20;
const HEAD_DIM = 8;
const HEADS = 3;
const KV_HEADS = 1;
const VOCABULARY = 7;

const CONFIG = {
  model_type: 'llama',
  hidden_size: HIDDEN,
  intermediate_size: FFN,
  num_hidden_layers: 2,
  num_attention_heads: HEADS,
  num_key_value_heads: KV_HEADS,
  head_dim: HEAD_DIM,
  vocab_size: VOCABULARY,
  max_position_embeddings: 1_048_576,
  rms_norm_eps: 1e-5,
  rope_theta: 1e8,
  tie_word_embeddings: true,
  hidden_act: 'silu',
  bos_token_id: 0,
  eos_token_id: 1,
};

const TOKENIZER = {
  added_tokens: [
    { id: 0, content: '<|begin|>', special: true },
    { id: 1, content: '<|end|>', special: true },
  ],
  model: { type: 'BPE', vocab: { Ġ: 2, t: 3, Ġt: 4, é: 5 }, merges: [['Ġ', 't']] },
};

function tensor(...shape: number[]): SourceTensor {
  const count = shape.reduce((product, length) => product * length, 1);
  return { shape, data: randomBytes(2 * count) };
}

function tinyModel(): LlamaModel {
  const layer = (index: number): [string, SourceTensor][] =>
    Object.entries({
      input_layernorm: tensor(HIDDEN),
      'self_attn.q_proj': tensor(HEADS * HEAD_DIM, HIDDEN),
      'self_attn.k_proj': tensor(KV_HEADS * HEAD_DIM, HIDDEN),
      'self_attn.v_proj': tensor(KV_HEADS * HEAD_DIM, HIDDEN),
      'self_attn.o_proj': tensor(HIDDEN, HEADS * HEAD_DIM),
      post_attention_layernorm: tensor(HIDDEN),
      'mlp.gate_proj': tensor(FFN, HIDDEN),
      'mlp.up_proj': tensor(FFN, HIDDEN),
      'mlp.down_proj': tensor(HIDDEN, FFN),
    }).map(([name, value]) => [`model.layers.${index}.${name}.weight`, value]);
  return {
    name: 'tiny',
    config: parseLlamaConfig(CONFIG),
    tokenizer: parseBpeTokenizer(TOKENIZER),
    tensors: new Map([
      ['model.embed_tokens.weight', tensor(VOCABULARY, HIDDEN)],
      ['model.norm.weight', tensor(HIDDEN)],
      ...layer(0),
      ...layer(1),
    ]),
  };
}

function source(model: LlamaModel, name: string): Uint8Array {
  const found = model.tensors.get(name);
  assert.ok(found !== undefined, name);
  return found.data;
}

/** The data of a tensor of a written file. */
function written(file: Buffer, name: string): Uint8Array {
  const { tensors, dataBegin } = readGguf(file);
  const found = tensors.get(name);
  assert.ok(found !== undefined, name);
  const elements = found.dimensions.reduce((product, length) => product * length, 1);
  const begin = dataBegin + found.offset;
  return file.subarray(begin, begin + elements * (found.type === 0 ? 4 : 2));
}

describe('A GGUF file written from a Llama', () => {
  const model = tinyModel();
  const file = Buffer.concat(writeGguf(model, 'BF16'));
  const read = readGguf(file);

  test('says the shape of the model', () => {
    assert.equal(read.version, 3);
    const want = {
      'general.architecture': 'llama',
      'llama.context_length': 1_048_576,
      'llama.embedding_length': HIDDEN,
      'llama.block_count': 2,
      'llama.feed_forward_length': FFN,
      'llama.attention.head_count': HEADS,
      'llama.attention.head_count_kv': KV_HEADS,
      'llama.attention.key_length': HEAD_DIM,
      'llama.rope.dimension_count': HEAD_DIM,
      'llama.rope.freq_base': 1e8,
      'llama.attention.layer_norm_rms_epsilon': Math.fround(1e-5),
    };
    for (const [key, value] of Object.entries(want)) assert.equal(read.metadata.get(key), value);
  });

  test('holds every token at its id, with its kind, and the merges', () => {
    assert.deepEqual(read.metadata.get('tokenizer.ggml.tokens'), [
      ...['<|begin|>', '<|end|>', 'Ġ', 't', 'Ġt', 'é'],
      '[unused6]',
    ]);
    assert.deepEqual(read.metadata.get('tokenizer.ggml.token_type'), [3, 3, 1, 1, 1, 1, 5]);
    assert.deepEqual(read.metadata.get('tokenizer.ggml.merges'), ['Ġ t']);
    assert.equal(read.metadata.get('tokenizer.ggml.eos_token_id'), 1);
  });

  test('has its tensors at aligned places that follow one another to the end of the file', () => {
    let end = 0;
    for (const [name, { dimensions, type, offset }] of read.tensors) {
      assert.equal(offset, Math.ceil(end / 32) * 32, name);
      const elements = dimensions.reduce((product, length) => product * length, 1);
      end = offset + elements * (type === 0 ? 4 : 2);
    }
    assert.equal(file.byteLength, read.dataBegin + Math.ceil(end / 32) * 32);
    assert.equal(read.tensors.size, 2 + 2 * 9, 'tied embeddings have no output matrix');
  });

  test('keeps matrices as they are, innermost dimension first, and widens norms', () => {
    assert.deepEqual(read.tensors.get('blk.1.ffn_down.weight')?.dimensions, [FFN, HIDDEN]);
    assert.deepEqual(
      Buffer.from(written(file, 'blk.1.ffn_down.weight')),
      source(model, 'model.layers.1.mlp.down_proj.weight'),
    );
    assert.deepEqual(
      Buffer.from(written(file, 'blk.0.ffn_norm.weight')),
      Buffer.from(widenBf16(source(model, 'model.layers.0.post_attention_layernorm.weight'))),
    );
  });

  test('has the rows of q and k in another order, and of v in the same', () => {
    const layer = 'model.layers.0.self_attn';
    assert.deepEqual(
      Buffer.from(written(file, 'blk.0.attn_q.weight')),
      Buffer.from(pairRotaryRows(source(model, `${layer}.q_proj.weight`), HEADS, HEAD_DIM)),
    );
    assert.deepEqual(
      Buffer.from(written(file, 'blk.0.attn_k.weight')),
      Buffer.from(pairRotaryRows(source(model, `${layer}.k_proj.weight`), KV_HEADS, HEAD_DIM)),
    );
    assert.deepEqual(
      Buffer.from(written(file, 'blk.0.attn_v.weight')),
      source(model, `${layer}.v_proj.weight`),
    );
  });

  test('holds the same numbers when its matrices are f32', () => {
    const wide = Buffer.concat(writeGguf(model, 'F32'));
    assert.deepEqual(
      Buffer.from(written(wide, 'token_embd.weight')),
      Buffer.from(widenBf16(source(model, 'model.embed_tokens.weight'))),
    );
  });

  test('is not written without one of its tensors', () => {
    const tensors = new Map(model.tensors);
    tensors.delete('model.norm.weight');
    assert.throws(() => writeGguf({ ...model, tensors }, 'BF16'), /no tensor model\.norm\.weight/);
  });
});

describe('The rows of a rotary projection', () => {
  test('that turn together become neighbours, head by head', () => {
    const rows = Uint8Array.from([0, 1, 2, 3, 10, 11, 12, 13]);
    assert.deepEqual([...pairRotaryRows(rows, 2, 4)], [0, 2, 1, 3, 10, 12, 11, 13]);
  });

  test('keep their bytes together and lose none', () => {
    const rowBytes = 6;
    const data = randomBytes(HEADS * HEAD_DIM * rowBytes);
    const paired = pairRotaryRows(data, HEADS, HEAD_DIM);
    const back = new Uint8Array(data.byteLength);
    for (let head = 0; head < HEADS; head += 1) {
      for (let half = 0; half < 2; half += 1) {
        for (let pair = 0; pair < HEAD_DIM / 2; pair += 1) {
          const from = (head * HEAD_DIM + 2 * pair + half) * rowBytes;
          const to = (head * HEAD_DIM + half * (HEAD_DIM / 2) + pair) * rowBytes;
          back.set(paired.subarray(from, from + rowBytes), to);
        }
      }
    }
    assert.deepEqual(Buffer.from(back), data);
  });
});

test('Widening keeps the value of every bf16 number', () => {
  const wide = widenBf16(Uint8Array.from([0x80, 0x3f, 0x49, 0xc0, 0x01, 0x00]));
  const values = [...new Float32Array(wide.buffer)];
  assert.deepEqual(values, [1, -3.140625, 2 ** -133]);
});

for (const [what, change] of Object.entries({
  'scaled rotary angles': { rope_scaling: { rope_type: 'llama3', factor: 8 } },
  'biases in attention': { attention_bias: true },
  'another family': { model_type: 'qwen2' },
})) {
  test(`A model with ${what} is refused, since its file would compute something else`, () => {
    const [field] = Object.keys(change);
    assert.throws(() => parseLlamaConfig({ ...CONFIG, ...change }), new RegExp(String(field)));
  });
}
