import { encodeGguf, type GgufTensor, type GgufTensorType, type GgufValue } from './encode-gguf.js';
import type { BpeTokenizer, LlamaConfig } from './llama-config.js';

/** A tensor of the model folder: bf16, row-major. */
export interface SourceTensor {
  readonly shape: readonly number[];
  readonly data: Uint8Array;
}

/** A model folder's content. Names of tensors are those of Hugging Face's Llama. */
export interface LlamaModel {
  readonly name: string;
  readonly config: LlamaConfig;
  readonly tokenizer: BpeTokenizer;
  readonly tensors: ReadonlyMap<string, SourceTensor>;
}

/** The format's numbers for "mostly" this dtype. */
const FILE_TYPES: Readonly<Record<GgufTensorType, number>> = { F32: 0, BF16: 32 };
/** The format's kinds of tokens. */
const TOKEN_TYPES = { normal: 1, control: 3, userDefined: 4, unused: 5 } as const;

const LAYER_NAMES: readonly (readonly [ours: string, theirs: string])[] = [
  ['input_layernorm', 'attn_norm'],
  ['self_attn.q_proj', 'attn_q'],
  ['self_attn.k_proj', 'attn_k'],
  ['self_attn.v_proj', 'attn_v'],
  ['self_attn.o_proj', 'attn_output'],
  ['post_attention_layernorm', 'ffn_norm'],
  ['mlp.gate_proj', 'ffn_gate'],
  ['mlp.up_proj', 'ffn_up'],
  ['mlp.down_proj', 'ffn_down'],
];

/**
 * A GGUF file with a model's own weights, in pieces: matrices in bf16 or widened to f32, which are
 * the same numbers, and norms in f32, which llama.cpp wants.
 *
 * @throws Error naming a tensor that is missing
 */
export function writeGguf(model: LlamaModel, matrices: GgufTensorType): Uint8Array[] {
  return encodeGguf(
    { ...modelMetadata(model, matrices), ...tokenizerMetadata(model) },
    modelTensors(model, matrices),
  );
}

/**
 * Rows of a q or k projection in the order that llama.cpp's Llama wants: its rotary embedding turns
 * neighbours, rows 2i and 2i + 1 of a head, while Hugging Face's turns rows i and i + head_dim / 2.
 *
 * @param data [heads * headDim] rows of equal length, in bytes
 */
export function pairRotaryRows(data: Uint8Array, heads: number, headDim: number): Uint8Array {
  const rowBytes = data.byteLength / (heads * headDim);
  const paired = new Uint8Array(data.byteLength);
  for (let row = 0; row < heads * headDim; row += 1) {
    const inHead = row % headDim;
    const source = row - inHead + (inHead >> 1) + (inHead & 1) * (headDim / 2);
    paired.set(data.subarray(source * rowBytes, (source + 1) * rowBytes), row * rowBytes);
  }
  return paired;
}

/** bf16 is the upper half of f32. */
export function widenBf16(data: Uint8Array): Uint8Array {
  const wide = new Uint8Array(data.byteLength * 2);
  for (let at = 0; at < data.byteLength; at += 2) {
    wide[2 * at + 2] = data[at] ?? 0;
    wide[2 * at + 3] = data[at + 1] ?? 0;
  }
  return wide;
}

function modelMetadata(
  { name, config }: LlamaModel,
  matrices: GgufTensorType,
): Record<string, GgufValue> {
  return {
    'general.architecture': { type: 'string', value: 'llama' },
    'general.name': { type: 'string', value: name },
    'general.file_type': uint32(FILE_TYPES[matrices]),
    'llama.vocab_size': uint32(config.vocab_size),
    'llama.context_length': uint32(config.max_position_embeddings),
    'llama.embedding_length': uint32(config.hidden_size),
    'llama.block_count': uint32(config.num_hidden_layers),
    'llama.feed_forward_length': uint32(config.intermediate_size),
    'llama.attention.head_count': uint32(config.num_attention_heads),
    'llama.attention.head_count_kv': uint32(config.num_key_value_heads),
    'llama.attention.key_length': uint32(config.head_dim),
    'llama.attention.value_length': uint32(config.head_dim),
    'llama.attention.layer_norm_rms_epsilon': { type: 'float32', value: config.rms_norm_eps },
    'llama.rope.dimension_count': uint32(config.head_dim),
    'llama.rope.freq_base': { type: 'float32', value: config.rope_theta },
  };
}

/**
 * The vocabulary. How text is split before merges is named as GPT-2's, which need not be this
 * model's: the benchmark passes ids, never text.
 */
function tokenizerMetadata({ config, tokenizer }: LlamaModel): Record<string, GgufValue> {
  const tokens = Array.from({ length: config.vocab_size }, (_, id) => `[unused${id}]`);
  const types = tokens.map((): number => TOKEN_TYPES.unused);
  for (const [token, id] of Object.entries(tokenizer.model.vocab)) {
    tokens[id] = token;
    types[id] = TOKEN_TYPES.normal;
  }
  for (const { id, content, special } of tokenizer.added_tokens) {
    tokens[id] = content;
    types[id] = special ? TOKEN_TYPES.control : TOKEN_TYPES.userDefined;
  }
  const merges = tokenizer.model.merges.map((merge) =>
    typeof merge === 'string' ? merge : merge.join(' '),
  );
  return {
    'tokenizer.ggml.model': { type: 'string', value: 'gpt2' },
    'tokenizer.ggml.pre': { type: 'string', value: 'gpt-2' },
    'tokenizer.ggml.tokens': { type: 'strings', value: tokens },
    'tokenizer.ggml.token_type': { type: 'int32s', value: types },
    'tokenizer.ggml.merges': { type: 'strings', value: merges },
    'tokenizer.ggml.bos_token_id': uint32(config.bos_token_id),
    'tokenizer.ggml.eos_token_id': uint32(config.eos_token_id),
    'tokenizer.ggml.add_bos_token': { type: 'bool', value: false },
  };
}

function modelTensors(model: LlamaModel, matrices: GgufTensorType): GgufTensor[] {
  const { config } = model;
  const names: [ours: string, theirs: string][] = [
    ['model.embed_tokens.weight', 'token_embd.weight'],
    ['model.norm.weight', 'output_norm.weight'],
  ];
  // Without one, llama.cpp takes the embeddings for it.
  if (!config.tie_word_embeddings) names.push(['lm_head.weight', 'output.weight']);
  for (let layer = 0; layer < config.num_hidden_layers; layer += 1) {
    for (const [ours, theirs] of LAYER_NAMES) {
      names.push([`model.layers.${layer}.${ours}.weight`, `blk.${layer}.${theirs}.weight`]);
    }
  }
  return names.map(([ours, theirs]) => modelTensor(model, ours, theirs, matrices));
}

function modelTensor(
  { config, tensors }: LlamaModel,
  ours: string,
  theirs: string,
  matrices: GgufTensorType,
): GgufTensor {
  const source = tensors.get(ours);
  if (source === undefined) throw new Error(`the model has no tensor ${ours}`);
  const { shape } = source;
  const data = inTheirOrder(theirs, source.data, config);
  const type = shape.length > 1 ? matrices : 'F32';
  return { name: theirs, type, shape, data: type === 'F32' ? widenBf16(data) : data };
}

function inTheirOrder(name: string, data: Uint8Array, config: LlamaConfig): Uint8Array {
  const { num_attention_heads: queryHeads, num_key_value_heads: kvHeads, head_dim } = config;
  if (name.endsWith('.attn_q.weight')) return pairRotaryRows(data, queryHeads, head_dim);
  if (name.endsWith('.attn_k.weight')) return pairRotaryRows(data, kvHeads, head_dim);
  return data;
}

function uint32(value: number): GgufValue {
  return { type: 'uint32', value };
}
