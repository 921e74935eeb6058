import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { ServingError } from '../../domain/serving-error.js';

/** The numbers that decide a model's size; positions in tokens. */
export interface ModelShape {
  readonly modelType: string;
  readonly layers: number;
  readonly hiddenSize: number;
  readonly ffnSize: number;
  readonly queryHeads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly vocabSize: number;
  readonly maxPositions: number;
  readonly ropeTheta: number | null;
  readonly tiedEmbeddings: boolean;
}

const size = z.int().min(1);
const CONFIG = z.object({
  model_type: z.string(),
  num_hidden_layers: size,
  hidden_size: size,
  intermediate_size: size.optional(),
  ffn_hidden_size: size.optional(),
  num_attention_heads: size,
  num_key_value_heads: size.optional(),
  head_dim: size.nullish(),
  vocab_size: size,
  max_position_embeddings: size,
  rope_theta: z.number().positive().nullish(),
  rope_parameters: z.object({ rope_theta: z.number().positive().optional() }).nullish(),
  tie_word_embeddings: z.boolean().optional(),
});

/** @throws ServingError MODEL_INVALID naming the file and what is wrong in it */
export async function readModelConfig(directory: string): Promise<ModelShape> {
  const path = join(directory, 'config.json');
  const config = CONFIG.safeParse(await readModelJson(path));
  if (!config.success) {
    const problems = config.error.issues.map(
      (issue) => `${issue.path.join('.') || 'the whole'}: ${issue.message}`,
    );
    throw new ServingError('MODEL_INVALID', `${path}: ${problems.join('; ')}`);
  }
  const { data } = config;
  return {
    modelType: data.model_type,
    layers: data.num_hidden_layers,
    hiddenSize: data.hidden_size,
    ffnSize: data.intermediate_size ?? data.ffn_hidden_size ?? 0,
    queryHeads: data.num_attention_heads,
    kvHeads: data.num_key_value_heads ?? data.num_attention_heads,
    headDim: data.head_dim ?? data.hidden_size / data.num_attention_heads,
    vocabSize: data.vocab_size,
    maxPositions: data.max_position_embeddings,
    ropeTheta: data.rope_theta ?? data.rope_parameters?.rope_theta ?? null,
    tiedEmbeddings: data.tie_word_embeddings ?? false,
  };
}

/** @throws ServingError MODEL_INVALID when the file is absent or not JSON */
export async function readModelJson(path: string): Promise<unknown> {
  try {
    return JSON.parse(await readFile(path, 'utf8')) as unknown;
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new ServingError(
      'MODEL_INVALID',
      `${path}: ${why}; a model folder holds config.json, tokenizer.json and safetensors files`,
    );
  }
}
