import { open } from 'node:fs/promises';
import type { Readable } from 'node:stream';
import { Option, type Command } from 'commander';
import { ServingError } from '../../domain/serving-error.js';
import type { TokenRange } from '../../domain/token-range.js';
import { readJson, readTokenIds } from '../engine/token-ids-file.js';
import { describeError } from '../output/describe-error.js';
import { formatBytes, formatCount, formatDuration, tokensPerSecond } from '../output/format.js';
import { PrefillProgress } from '../output/prefill-progress.js';
import type { AnswerEvent, AnswerReport } from '../rpc/answer-events.js';
import type { ChatMessage, Prompt } from '../rpc/prompt-parts.js';
import { RouterClient, type GenerateOptions } from '../rpc/router-client.js';
import { EXIT_INTERRUPTED } from './exit-status.js';
import {
  collectRange,
  finiteNumber,
  hostPort,
  integerFrom,
  LEAST_INT32,
  MOST_INT32,
  MOST_UINT32,
  unsigned64,
} from './option-parsers.js';

interface GenerateFlags {
  readonly router: string;
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
  readonly policy?: 'dense' | 'minference' | 'flexprefill';
  readonly cache?: 'full' | 'shadowkv' | 'locret';
  readonly maxPromptTokens?: number;
  readonly deadlineMs?: number;
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

A chat file is [{"role": "user", "content": "..."}]. An ids file is [1, 2, 3] or {"ids": [1, 2, 3]}.`;

export function addGenerateCommand(program: Command): void {
  program
    .command('generate')
    .description('Upload a prompt and stream the answer')
    .argument('[input]', 'a single dash: the prompt comes on standard input')
    .requiredOption('--router <host:port>', 'address of the router', hostPort)
    .requiredOption('--model <name>', 'a served model, as `longshadow status` names it')
    .option('--prompt <text>', 'the prompt')
    .option('--file <path>', 'UTF-8 file with the prompt')
    .option('--ids <path>', 'JSON file with token ids')
    .option('--chat <path>', 'JSON file with chat messages')
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
    .option('--ignore-eos', "do not stop at the model's end-of-sequence tokens")
    .addOption(
      new Option('--policy <name>', "how prefill attends; default: the model's").choices([
        'dense',
        'minference',
        'flexprefill',
      ]),
    )
    .addOption(
      new Option('--cache <name>', "what decode keeps; default: the model's").choices([
        'full',
        'shadowkv',
        'locret',
      ]),
    )
    .option('--max-prompt-tokens <count>', 'what memory is reserved for', integerFrom(1))
    .option('--deadline-ms <ms>', 'cancel after this time', integerFrom(LEAST_INT32))
    .option('--keep-session-ms <ms>', 'keep the session for another turn', integerFrom(0))
    .option('--continue <session>', 'continue a kept session')
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

async function generate(input: string | undefined, flags: GenerateFlags): Promise<void> {
  const prompt = await readPrompt(input, flags);
  const client = new RouterClient(flags.router, process.env);
  const interrupt = new AbortController();
  const onInterrupt = (): void => {
    interrupt.abort();
  };
  process.once('SIGINT', onInterrupt);
  try {
    const events = client.generate(toOptions(flags), prompt, interrupt.signal);
    if (flags.json === true) {
      for await (const event of events) process.stdout.write(`${JSON.stringify(event)}\n`);
    } else {
      await showAnswer(events);
    }
  } catch (error) {
    if (!interrupt.signal.aborted) throw error;
    process.stderr.write('\ncancelled\n');
    process.exitCode = EXIT_INTERRUPTED;
  } finally {
    process.removeListener('SIGINT', onInterrupt);
    client.close();
  }
}

/** Progress and figures to stderr, the answer to stdout. */
async function showAnswer(events: AsyncIterable<AnswerEvent>): Promise<void> {
  const progress = new PrefillProgress(process.stderr, () => performance.now());
  try {
    for await (const event of events) {
      switch (event.type) {
        case 'accepted':
          break;
        case 'queued':
          process.stderr.write(
            `queued behind ${formatCount(event.jobsAhead)} jobs on ${event.workerId}\n`,
          );
          break;
        case 'progress':
          progress.update(
            event.processedTokens,
            event.totalTokens,
            event.cachedTokens,
            event.etaMs,
          );
          break;
        case 'token':
          progress.stop();
          process.stdout.write(event.text);
          break;
        case 'finished':
          process.stdout.write(`${event.text}\n`);
          process.stderr.write(`${describeReport(event.sessionId, event.report)}\n`);
          break;
        case 'error':
          break;
      }
    }
  } finally {
    progress.stop();
  }
}

/** The figures of a turn in one or two lines. */
export function describeReport(sessionId: string, report: AnswerReport): string {
  const prefilled = report.promptTokens - report.cachedTokens;
  const figures = [
    `${formatCount(report.promptTokens)} prompt tokens` +
      (report.cachedTokens > 0 ? ` (${formatCount(report.cachedTokens)} cached)` : ''),
    `prefill ${formatCount(tokensPerSecond(prefilled, report.prefillMs))} tokens/s`,
    `first token after ${formatDuration(report.timeToFirstTokenMs)}`,
    `${formatCount(report.completionTokens)} new tokens` +
      (report.completionTokens > 1
        ? ` at ${tokensPerSecond(report.completionTokens - 1, report.decodeMs).toFixed(1)} tokens/s`
        : ''),
    `KV ${formatBytes(report.segmentBytes + report.privateBytes)}`,
    `${report.prefillPolicy} prefill, ${report.cachePolicy} cache`,
    `ended by ${report.finishReason}`,
  ];
  const kept =
    report.keptUntilUnixMs === null
      ? ''
      : `\nkept until ${new Date(report.keptUntilUnixMs).toISOString()}: --continue ${sessionId}`;
  return figures.join(', ') + kept;
}

function toOptions(flags: GenerateFlags): GenerateOptions {
  const { policy, cache, continue: continueSessionId, ...same } = flags;
  return {
    ...same,
    ...(policy === undefined ? {} : { prefillPolicy: policy }),
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
