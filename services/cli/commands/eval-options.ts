import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { type Command, InvalidArgumentError } from 'commander';
import { ServingError } from '../../domain/serving-error.js';
import { parseLength } from '../eval/run/parse-length.js';
import { withControls } from '../eval/run/policies.js';
import type { EvalOptions } from '../eval/run/run-eval.js';
import { integerFrom } from './option-parsers.js';
import { addRouterOptions, type RouterFlags } from './router-options.js';
import { embeddedModelDirectory } from './up.js';

/** Flags of every subcommand of `longshadow eval`. */
export interface EvalFlags extends RouterFlags {
  readonly model?: string;
  readonly tokenizer?: string;
  readonly out: string;
  readonly policies: readonly string[];
  readonly control: boolean;
  readonly concurrency: number;
  readonly patience: number;
}

/** Flags of the subcommands whose documents are generated. */
export interface GeneratedFlags extends EvalFlags {
  readonly lengths: readonly number[];
  readonly documents: number;
  readonly seed: number;
  readonly haystack?: string;
  readonly words?: string;
}

const DEFAULT_ROUTER = '127.0.0.1:7000';

/** Where the cluster is, where the run is kept, and how hard it is pressed. */
export function addEvalOptions(command: Command): Command {
  return addRouterOptions(command, DEFAULT_ROUTER)
    .requiredOption(
      '--out <folder>',
      'where the run is kept; the same command on the same folder goes on with it',
    )
    .option('--model <name>', 'a served model; default: the only one')
    .option(
      '--tokenizer <folder>',
      "the served model's folder, for its tokenizer and chat template; default: models/NAME",
    )
    .option(
      '--policies <list>',
      'dense, minference, flexprefill, a-shape, shadowkv, locret, or two as minference+shadowkv; minference@32: with 32 key tiles a query block; several side by side',
      wordList,
      ['dense'],
    )
    .option(
      '--no-control',
      'leave out the windows of the same cost that sparse prefill is measured against: the tables are no evidence then',
    )
    .option(
      '--concurrency <count>',
      'documents that are held at the same time, and turns that run',
      integerFrom(1, 1_024),
      4,
    )
    .option(
      '--patience <seconds>',
      'how long a cluster that says nothing is waited for',
      integerFrom(1, 86_400),
      60,
    );
}

/** What cells are made of. @param documents default of --documents */
export function addGeneratedOptions(command: Command, documents: number): Command {
  return addEvalOptions(command)
    .option(
      '--lengths <list>',
      'tokens of prompt and answer, as 4096, 32K or 1M',
      lengthList,
      [4_096],
    )
    .option('--documents <count>', 'of each task and length', integerFrom(1), documents)
    .option('--seed <number>', 'same seed, same documents', integerFrom(0), 1);
}

/** What prompts are made of. */
export function addTextOptions(command: Command): Command {
  return command
    .option('--haystack <file>', 'text that needles are hidden in; default: Moby Dick')
    .option('--words <folder>', "wonderwords' word lists; default: those of an npm package");
}

/** The part of the flags that a run takes. */
export function toEvalOptions(flags: EvalFlags): EvalOptions {
  const { model, out, concurrency } = flags;
  return {
    ...{ model, out, concurrency },
    policies: flags.control ? withControls(flags.policies) : flags.policies,
    tokenizerOf: (name) => flags.tokenizer ?? packagedModel(name),
    patienceMs: flags.patience * 1_000,
  };
}

/** `a,b`, each once. */
export function wordList(text: string): string[] {
  const words = text.split(',').map((word) => word.trim());
  if (words.includes('')) throw new InvalidArgumentError('want names, as dense,minference.');
  return [...new Set(words)];
}

/** `4K,32K`, each once. */
export function lengthList(text: string): number[] {
  const lengths = text.split(',').map((word) => {
    const length = parseLength(word);
    if (length !== null) return length;
    throw new InvalidArgumentError('want tokens, as 4096, 32K or 1M.');
  });
  return [...new Set(lengths)];
}

function packagedModel(name: string): string {
  const folder = join(dirname(embeddedModelDirectory()), name);
  if (existsSync(join(folder, 'tokenizer.json'))) return folder;
  throw new ServingError(
    'BAD_REQUEST',
    `give --tokenizer the folder of model ${name}, with its tokenizer.json: prompts are made into ids here`,
  );
}
