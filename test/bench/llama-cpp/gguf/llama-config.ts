import { z } from 'zod';

const size = z.int().min(1);

/**
 * config.json of a model that llama.cpp's `llama` can run from tensors alone. What would change the
 * computation and is not written is refused.
 */
const LLAMA_CONFIG = z.object({
  model_type: z.literal('llama'),
  hidden_size: size,
  intermediate_size: size,
  num_hidden_layers: size,
  num_attention_heads: size,
  num_key_value_heads: size,
  head_dim: size,
  vocab_size: size,
  max_position_embeddings: size,
  rms_norm_eps: z.number().positive(),
  rope_theta: z.number().positive(),
  rope_scaling: z.null().optional(),
  tie_word_embeddings: z.boolean().default(false),
  attention_bias: z.literal(false).default(false),
  mlp_bias: z.literal(false).default(false),
  hidden_act: z.literal('silu'),
  bos_token_id: z.int().nonnegative(),
  eos_token_id: z.int().nonnegative(),
});
export type LlamaConfig = z.infer<typeof LLAMA_CONFIG>;

/** What the file's vocabulary is made from. */
const BPE_TOKENIZER = z.object({
  added_tokens: z.array(z.object({ id: z.int(), content: z.string(), special: z.boolean() })),
  model: z.object({
    type: z.literal('BPE'),
    vocab: z.record(z.string(), z.int()),
    merges: z.array(z.union([z.string(), z.tuple([z.string(), z.string()])])),
  }),
});
export type BpeTokenizer = z.infer<typeof BPE_TOKENIZER>;

/** @throws ZodError naming the fields that this writer does not know how to write */
export function parseLlamaConfig(json: unknown): LlamaConfig {
  return LLAMA_CONFIG.parse(json);
}

/** @throws ZodError if it is not a byte-level BPE tokenizer.json */
export function parseBpeTokenizer(json: unknown): BpeTokenizer {
  return BPE_TOKENIZER.parse(json);
}
