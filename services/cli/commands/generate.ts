import { open } from 'node:fs/promises';
import type { Readable } from 'node:stream';
import { Option, type Command } from 'commander';
import {
  CACHE_POLICY_NAMES,
  type CachePolicy,
  PREFILL_POLICY_NAMES,
  type PrefillPolicy,
} from '../../domain/policy.js';
import { ServingError } from '../../domain/serving-error.js';
import type { TokenRange } from '../../domain/token-range.js';
import { readJson, readTokenIds } from '../engine/token-ids-file.js';
import { describeError } from '../output/describe-error.js';
import type { ChatMessage, Prompt } from '../rpc/prompt-parts.js';
import type { GenerateOptions } from '../rpc/to-header.js';
import { followAnswer } from './follow-answer.js';
import {
  collectRange,
  finiteNumber,
  integerFrom,
  LEAST_INT32,
  MOST_INT32,
  MOST_UINT32,
  unsigned64,
} from './option-parsers.js';
import { addRouterOptions, type RouterFlags } from './router-options.js';

interface GenerateFlags extends RouterFlags {
  readonly model: string;
  readonly prompt?: string;
  readonly file?: string;
  readonly ids?: string;
  readonly chat?: string;
  readonly maxNewTokens?: number;
  readonly temperature?: number;
  readonly topK?: number;
  readonly topP?: number;
  readonly seed?: string;
  readonly stop?: string[];
  readonly ignoreEos?: boolean;
  readonly policy?: PrefillPolicy;
  readonly tilesPerBlock?: number;
  readonly denseBelow?: number;
  readonly gamma?: number;
  readonly cache?: CachePolicy;
  readonly maxPromptTokens?: number;
  readonly deadlineMs?: number;
  readonly tenant?: string;
  readonly priority?: 'low' | 'normal' | 'high';
  readonly onDisconnect?: 'cancel' | 'keep';
  readonly resumeGraceMs?: number;
  readonly keepSessionMs?: number;
  readonly continue?: string;
  readonly promptLogprobs: TokenRange[];
  readonly json?: boolean;
}

const EXAMPLES = `
Examples:
  longshadow generate --router 127.0.0.1:7000 --model needle --prompt "Call me"
  longshadow generate --router 127.0.0.1:7000 --model needle --file book.txt --max-new-tokens 64
  cat book.txt | longshadow generate --router 127.0.0.1:7000 --model needle -
  longshadow generate --router 127.0.0.1:7000 --model needle --chat messages.json --json
  longshadow generate --router 127.0.0.1:7000 --model needle --ids ids.json --prompt-logprobs 1:100
  longshadow generate --router 127.0.0.1:7000 --model needle --file book.txt \\
    --policy minference --tiles-per-block 32
  longshadow generate --router 127.0.0.1:7000,127.0.0.1:7001 --model needle --file book.txt \\
    --priority low --on-disconnect keep

Of several routers, another goes on with the answer where one dies.
A chat file is [{"role": "user", "content": "..."}]. An ids file is [1, 2, 3] or {"ids": [1, 2, 3]}.`;

export function addGenerateCommand(program: Command): void {
  const command = program
    .command('generate')
    .description('Upload a prompt and stream the answer')
    .argument('[input]', 'a single dash: the prompt comes on standard input');
  addRouterOptions(command)
    .requiredOption('--model <name>', 'a served model, as `longshadow status` names it')
    .option('--prompt <text>', 'the prompt')
    .option('--file <path>', 'UTF-8 file with the prompt')
    .option('--ids <path>', 'JSON file with token ids')
    .option('--chat <path>', 'JSON file with chat messages');
  addAnswerOptions(command);
  addPrefillOptions(command);
  addSessionOptions(command);
  command
    .option(
      '--prompt-logprobs <begin:end>',
      'positions of prompt tokens to score; may be repeated (see --json)',
      collectRange,
      [],
    )
    .option('--json', 'one JSON object an event on standard output')
    .addHelpText('after', EXAMPLES)
    .action(async (input: string | undefined, flags: GenerateFlags) => {
      await generate(input, flags);
    });
}

/** How tokens are made. */
function addAnswerOptions(command: Command): void {
  command
    .option('--max-new-tokens <count>', 'tokens to generate at most', integerFrom(1, MOST_UINT32))
    .option('--temperature <number>', '0 is greedy', finiteNumber)
    .option(
      '--top-k <count>',
      'keep the k likeliest tokens; 0: all',
      integerFrom(LEAST_INT32, MOST_INT32),
    )
    .option('--top-p <share>', 'keep the smallest set with this probability', finiteNumber)
    .option('--seed <number>', 'same seed, same tokens', unsigned64)
    .option('--stop <text...>', 'texts that end the answer')
    .option('--ignore-eos', "do not stop at the model's end-of-sequence tokens");
  addChoice(
    command,
    '--cache <name>',
    "what decode keeps; default: the model's",
    CACHE_POLICY_NAMES,
  );
}

/** How prefill attends. */
function addPrefillOptions(command: Command): void {
  addChoice(
    command,
    '--policy <name>',
    "how prefill attends; default: the model's; a-shape is for comparisons",
    PREFILL_POLICY_NAMES,
  );
  command
    .option(
      '--tiles-per-block <count>',
      'sparse prefill: most key tiles (64 keys) of a block of 64 queries',
      integerFrom(0, MOST_UINT32),
    )
    .option(
      '--dense-below <tokens>',
      'sparse prefill: chunks that end at or before this position are dense',
      integerFrom(0, MOST_UINT32),
    )
    .option('--gamma <share>', 'flexprefill: share of the attention mass to cover', finiteNumber);
}

/** What a session may take, and how long it lives. */
function addSessionOptions(command: Command): void {
  command
    .option('--max-prompt-tokens <count>', 'what memory is reserved for', integerFrom(1))
    .option('--deadline-ms <ms>', 'cancel after this time', integerFrom(LEAST_INT32))
    .option('--tenant <name>', "who pays; default: the API key's tenant");
  addChoice(command, '--priority <share>', "share of the workers' time; default: normal", [
    'low',
    'normal',
    'high',
  ]);
  addChoice(command, '--on-disconnect <what>', 'when this client goes; default: cancel', [
    'cancel',
    'keep',
  ]);
  command
    .option(
      '--resume-grace-ms <ms>',
      'how long the session runs on without a client; default: 60000',
      integerFrom(0),
    )
    .option('--keep-session-ms <ms>', 'keep the session for another turn', integerFrom(0))
    .option('--continue <session>', 'continue a kept session');
}

function addChoice(
  command: Command,
  flag: string,
  description: string,
  choices: readonly string[],
): void {
  command.addOption(new Option(flag, description).choices(choices));
}

async function generate(input: string | undefined, flags: GenerateFlags): Promise<void> {
  const prompt = await readPrompt(input, flags);
  const options = toOptions(flags);
  await followAnswer(flags, (routers, lasting) => routers.generate(options, prompt, lasting));
}

function toOptions(flags: GenerateFlags): GenerateOptions {
  const { policy, denseBelow, cache, continue: continueSessionId, ...same } = flags;
  return {
    ...same,
    ...(policy === undefined ? {} : { prefillPolicy: policy }),
    ...(denseBelow === undefined ? {} : { denseBelowTokens: denseBelow }),
    ...(cache === undefined ? {} : { cachePolicy: cache }),
    ...(continueSessionId === undefined ? {} : { continueSessionId }),
  };
}

async function readPrompt(input: string | undefined, flags: GenerateFlags): Promise<Prompt> {
  const sources = [input, flags.prompt, flags.file, flags.ids, flags.chat].filter(
    (source) => source !== undefined,
  );
  if (sources.length !== 1 || (input !== undefined && input !== '-')) {
    throw new ServingError(
      'BAD_REQUEST',
      'give the prompt once: --prompt TEXT, --file PATH, --ids PATH, --chat PATH or - (standard input)',
    );
  }
  if (flags.prompt !== undefined) return { kind: 'text', bytes: [Buffer.from(flags.prompt)] };
  if (flags.ids !== undefined) return { kind: 'ids', ids: await readTokenIds(flags.ids) };
  if (flags.chat !== undefined) return { kind: 'chat', messages: await readChat(flags.chat) };
  if (flags.file !== undefined) return { kind: 'text', bytes: await openText(flags.file) };
  return { kind: 'text', bytes: process.stdin };
}

/** @throws ServingError BAD_REQUEST when the file is absent, a folder or not ours to read */
async function openText(path: string): Promise<Readable> {
  try {
    const file = await open(path);
    if (!(await file.stat()).isDirectory()) return file.createReadStream();
    await file.close();
  } catch (error) {
    throw new ServingError('BAD_REQUEST', `--file ${path}: ${describeError(error)}`);
  }
  throw new ServingError('BAD_REQUEST', `--file ${path} is a folder; give a file`);
}

async function readChat(path: string): Promise<ChatMessage[]> {
  const value = await readJson(path);
  const wrong = new ServingError(
    'BAD_REQUEST',
    `${path}: want a JSON array of {"role": "...", "content": "..."}`,
  );
  if (!Array.isArray(value)) throw wrong;
  return value.map((entry: unknown) => {
    const { role, content } = (entry ?? {}) as Partial<Record<string, unknown>>;
    if (typeof role !== 'string' || typeof content !== 'string') throw wrong;
    return { role, content };
  });
}
