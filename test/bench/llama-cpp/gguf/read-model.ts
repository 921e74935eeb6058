import { readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { parseBpeTokenizer, parseLlamaConfig } from './llama-config.js';
import type { LlamaModel, SourceTensor } from './write-gguf.js';

interface HeaderEntry {
  readonly dtype: string;
  readonly shape: number[];
  readonly data_offsets: [begin: number, end: number];
}

/**
 * Reads a Llama in Hugging Face layout: config.json, tokenizer.json, all safetensors files.
 *
 * @throws Error if a tensor is not bf16, ZodError if the model is of a kind that is not written
 */
export function readModel(directory: string): LlamaModel {
  const json = (file: string): unknown =>
    JSON.parse(readFileSync(join(directory, file), 'utf8')) as unknown;
  const tensors = new Map<string, SourceTensor>();
  for (const file of readdirSync(directory).filter((name) => name.endsWith('.safetensors'))) {
    readTensors(join(directory, file), tensors);
  }
  return {
    name: basename(directory),
    config: parseLlamaConfig(json('config.json')),
    tokenizer: parseBpeTokenizer(json('tokenizer.json')),
    tensors,
  };
}

function readTensors(path: string, tensors: Map<string, SourceTensor>): void {
  const bytes = readFileSync(path);
  const dataBegin = 8 + Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.toString('utf8', 8, dataBegin)) as Record<string, HeaderEntry>;
  for (const [name, { dtype, shape, data_offsets: offsets }] of Object.entries(header)) {
    if (name === '__metadata__') continue;
    if (dtype !== 'BF16') throw new Error(`${path}: ${name} is ${dtype}; only BF16 is written`);
    const [begin, end] = offsets;
    tensors.set(name, { shape, data: bytes.subarray(dataBegin + begin, dataBegin + end) });
  }
}
