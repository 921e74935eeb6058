import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Tokenizer } from 'tokenizers';
import { z } from 'zod';
import { ServingError } from '../../domain/serving-error.js';
import { ChatTemplate } from './chat-template.js';
import { SpecialTokens } from './special-tokens.js';
import type { TextEncodings } from './text-encoder.js';
import { chooseTextSplit, type TextSplit } from './text-split.js';
import { postProcessorPrefix, type TokenizerJson, tokenizerJsonSchema } from './tokenizer-json.js';

/** Everything that turns a model's prompts into ids. */
export interface ModelTokenizer {
  readonly name: string;
  readonly encodings: TextEncodings;
  /** As `encodings`, for text after a special token. */
  readonly laterEncodings: TextEncodings;
  readonly splitKind: TextSplit['kind'];
  /** Put before a prompt that begins with raw text. */
  readonly prefixIds: readonly number[];
  readonly specialTokens: SpecialTokens;
  /** Null if the model has none: messages are then refused. */
  readonly chatTemplate: ChatTemplate | null;
  /** One past the greatest id. */
  readonly vocabSize: number;
  /** From config.json, where the folder has one. */
  readonly modelConfig: Readonly<Record<string, unknown>> | null;
}

const tokenSpelling = z
  .union([z.string(), z.looseObject({ content: z.string() })])
  .nullish()
  .transform((token) => (typeof token === 'object' ? (token?.content ?? null) : (token ?? null)));

const tokenizerConfigSchema = z.looseObject({
  add_bos_token: z.boolean().optional(),
  bos_token: tokenSpelling,
  eos_token: tokenSpelling,
  unk_token: tokenSpelling,
  pad_token: tokenSpelling,
  chat_template: z
    .union([z.string(), z.array(z.object({ name: z.string(), template: z.string() }))])
    .nullish(),
});
type TokenizerConfig = z.infer<typeof tokenizerConfigSchema>;

/**
 * Loads a model folder's tokenizer.json, tokenizer_config.json, chat_template.jinja and config.json;
 * only the first must be there.
 *
 * User text is encoded by tokenizers without any added token. The binding has no switch for
 * `encode_special_tokens`, so they are made from tokenizer.json with an empty list of added tokens;
 * the vocabulary, its ids, normaliser and pre-tokenizer stay as they are. Special tokens get into a
 * prompt by their ids alone.
 *
 * @throws ServingError MODEL_INVALID saying which file is wrong and how
 */
export async function loadModelTokenizer(name: string, directory: string): Promise<ModelTokenizer> {
  const json = await readJson(directory, 'tokenizer.json', tokenizerJsonSchema);
  if (json === null) {
    throw new ServingError(
      'MODEL_INVALID',
      `model ${name}: ${join(directory, 'tokenizer.json')} is missing; set the model's directory to a folder in Hugging Face layout`,
    );
  }
  const config =
    (await readJson(directory, 'tokenizer_config.json', tokenizerConfigSchema)) ??
    tokenizerConfigSchema.parse({});
  const split = chooseTextSplit(json);
  const rest = makeTokenizer(directory, {
    ...json,
    normalizer: split.restNormalizer,
    pre_tokenizer: split.restPreTokenizer,
  });
  const hasPrefix =
    split.restNormalizer !== json.normalizer || split.restPreTokenizer !== json.pre_tokenizer;
  const first = hasPrefix ? makeTokenizer(directory, json) : rest;
  const { isSafeCut } = split;
  return {
    name,
    encodings: { first, rest, isSafeCut },
    laterEncodings: { first: split.prefixOnlyAtStart ? rest : first, rest, isSafeCut },
    splitKind: split.kind,
    prefixIds: promptPrefix(json, config),
    specialTokens: new SpecialTokens(json.added_tokens),
    chatTemplate: await loadChatTemplate(directory, config),
    vocabSize: vocabularySize(json),
    modelConfig: await readJson(directory, 'config.json', z.looseObject({})),
  };
}

/** `add_bos_token` decides where it is set; else the post-processor does. */
function promptPrefix(json: TokenizerJson, config: TokenizerConfig): readonly number[] {
  if (config.add_bos_token === false) return [];
  const prefix = postProcessorPrefix(json);
  if (prefix.length > 0 || config.add_bos_token !== true) return prefix;
  const bos = json.added_tokens.find(({ content }) => content === config.bos_token);
  return bos === undefined ? [] : [bos.id];
}

function makeTokenizer(directory: string, json: TokenizerJson): Tokenizer {
  try {
    return Tokenizer.fromString(
      JSON.stringify({ ...json, added_tokens: [], truncation: null, padding: null }),
    );
  } catch (error) {
    throw new ServingError(
      'MODEL_INVALID',
      `${join(directory, 'tokenizer.json')} is not a tokenizer: ${reason(error)}; download the file again`,
      {},
      { cause: error },
    );
  }
}

async function loadChatTemplate(
  directory: string,
  config: TokenizerConfig,
): Promise<ChatTemplate | null> {
  const inConfig =
    typeof config.chat_template === 'string'
      ? config.chat_template
      : config.chat_template?.find((entry) => entry.name === 'default')?.template;
  const source = inConfig ?? (await readOptional(join(directory, 'chat_template.jinja')));
  if (source === null) return null;
  const { bos_token, eos_token, unk_token, pad_token } = config;
  const named = Object.entries({ bos_token, eos_token, unk_token, pad_token });
  return new ChatTemplate(source, Object.fromEntries(named.filter(([, token]) => token !== null)));
}

function vocabularySize(json: TokenizerJson): number {
  let greatest = 0;
  for (const { id } of json.added_tokens) greatest = Math.max(greatest, id);
  for (const id of Object.values(json.model.vocab)) greatest = Math.max(greatest, id);
  return greatest + 1;
}

async function readJson<Output>(
  directory: string,
  file: string,
  schema: z.ZodType<Output>,
): Promise<Output | null> {
  const path = join(directory, file);
  const text = await readOptional(path);
  if (text === null) return null;
  try {
    return schema.parse(JSON.parse(text));
  } catch (error) {
    throw new ServingError(
      'MODEL_INVALID',
      `${path} cannot be used: ${reason(error)}; download the file again`,
      {},
      { cause: error },
    );
  }
}

async function readOptional(path: string): Promise<string | null> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return null;
    throw new ServingError(
      'MODEL_INVALID',
      `${path} cannot be read: ${reason(error)}`,
      {},
      { cause: error },
    );
  }
}

function reason(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
