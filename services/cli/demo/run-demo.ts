import type { PrefillPolicy } from '../../domain/policy.js';
import { Cluster } from '../cluster/start-cluster.js';
import {
  formatBytes,
  formatCount,
  formatDuration,
  formatShare,
  tokensPerSecond,
} from '../output/format.js';
import { PrefillProgress } from '../output/prefill-progress.js';
import type { AnswerReport } from '../rpc/answer-events.js';
import type { Prompt } from '../rpc/prompt-parts.js';
import { RouterClient } from '../rpc/router-client.js';
import { readBook } from '../text/book.js';
import { type DemoScreen } from './demo-screen.js';
import { fitLength } from './fit-length.js';
import { findLeftovers } from './leftovers.js';
import {
  askForNeedle,
  isRightAnswer,
  makeNeedles,
  plantNeedles,
  type Needle,
} from './needle-prompt.js';

export interface DemoOptions {
  readonly promptTokens: number;
  readonly needles: number;
  readonly seed: number;
  readonly prefillPolicy: PrefillPolicy;
  readonly modelDirectory: string;
  readonly model: string;
  readonly redisUrl: string | null;
  readonly environment: NodeJS.ProcessEnv;
}

const READY_WITHIN_MS = 120_000;
const MAX_NEW_TOKENS = 64;
/** Of English in a 4,096-token vocabulary, roughly; only the first guess. */
const CHARACTERS_A_TOKEN = 3.4;
const MOST_CHARACTERS_A_TOKEN = 8;

/**
 * Asks a local cluster for a number hidden in a book, then takes everything down again.
 *
 * @returns true if the answer was right and nothing was left behind
 */
export async function runDemo(
  options: DemoOptions,
  screen: DemoScreen,
  signal: AbortSignal,
): Promise<boolean> {
  const startedMs = performance.now();
  screen.title('Longshadow: a long prompt through router, queue, worker and decode');
  const cluster = await Cluster.start({
    modelDirectory: options.modelDirectory,
    workers: 1,
    routerListen: '127.0.0.1:0',
    storeBase: null,
    redisUrl: options.redisUrl,
    environment: { ...options.environment, LONGSHADOW_LOG_LEVEL: 'error' },
    readyWithinMs: READY_WITHIN_MS,
    onLog: (role, line) => {
      screen.note(`${role}: ${line}`);
    },
    signal,
  });
  let right = false;
  try {
    screen.step('cluster', `ready in ${formatDuration(performance.now() - startedMs)}`);
    for (const { role, address, pid } of cluster.members) {
      screen.detail(`${role.padEnd(7)} pid ${String(pid).padEnd(8)} ${address}`);
    }
    right = await askCluster(cluster, options, screen, signal);
  } finally {
    await cluster.stop();
  }
  const pids = cluster.members.map(({ pid }) => pid);
  const left = findLeftovers(cluster.directories, pids);
  screen.step(
    'stopped',
    left.length === 0
      ? `${String(pids.length)} processes ended; no process, shared-memory file or temporary folder is left`
      : `left behind: ${left.join(', ')}`,
  );
  return right && left.length === 0;
}

async function askCluster(
  cluster: Cluster,
  options: DemoOptions,
  screen: DemoScreen,
  signal: AbortSignal,
): Promise<boolean> {
  const client = new RouterClient(cluster.routerAddress, options.environment);
  try {
    const needles = makeNeedles(options.seed, options.needles);
    const asked = needles[Math.floor(needles.length / 2)];
    if (asked === undefined) throw new Error('the demo needs a needle');
    const { prompt, tokens } = await makePrompt(client, options, needles, asked, signal);
    screen.step(
      'prompt',
      `${formatCount(tokens)} tokens of Moby Dick with ${String(needles.length)} needles:`,
    );
    for (const { key, number, depth } of needles) {
      screen.detail(`${number} for ${key}, ${(depth * 100).toFixed(0)} % deep`);
    }
    screen.step('question', `What is the special magic number for ${asked.key}?`);
    const { answer, report } = await streamAnswer(client, options, prompt, screen, signal);
    const right = isRightAnswer(answer, asked);
    screen.step(
      right ? 'right' : 'wrong',
      right
        ? `the number is ${asked.number}`
        : `the number is ${asked.number}, the answer says otherwise`,
    );
    await showFigures(client, report, screen);
    return right;
  } finally {
    client.close();
  }
}

async function makePrompt(
  client: RouterClient,
  options: DemoOptions,
  needles: readonly Needle[],
  asked: Needle,
  signal: AbortSignal,
): Promise<{ prompt: Prompt; tokens: number }> {
  const mostCharacters = options.promptTokens * MOST_CHARACTERS_A_TOKEN;
  const book = repeatTo(readBook(), mostCharacters);
  const promptOf = (characters: number): Prompt => ({
    kind: 'chat',
    messages: askForNeedle(plantNeedles(book, characters, needles), asked),
  });
  const { characters, tokens } = await fitLength(
    options.promptTokens,
    async (length) => {
      signal.throwIfAborted();
      return client.countTokens(options.model, promptOf(length));
    },
    Math.round(options.promptTokens * CHARACTERS_A_TOKEN),
    mostCharacters,
  );
  return { prompt: promptOf(characters), tokens };
}

async function streamAnswer(
  client: RouterClient,
  { model, prefillPolicy, promptTokens }: DemoOptions,
  prompt: Prompt,
  screen: DemoScreen,
  signal: AbortSignal,
): Promise<{ answer: string; report: AnswerReport }> {
  const progress = new PrefillProgress(process.stderr, () => performance.now());
  let answer = '';
  try {
    for await (const event of client.generate(
      { model, prefillPolicy, maxPromptTokens: promptTokens, maxNewTokens: MAX_NEW_TOKENS },
      prompt,
      signal,
    )) {
      if (event.type === 'progress') {
        const { processedTokens, totalTokens, cachedTokens, etaMs } = event;
        progress.update(processedTokens, totalTokens, cachedTokens, etaMs);
      } else if (event.type === 'token' || event.type === 'finished') {
        progress.stop();
        if (answer === '') screen.beginAnswer();
        screen.answer(event.text);
        answer += event.text;
        if (event.type === 'finished') return { answer, report: event.report };
      }
    }
  } finally {
    progress.stop();
    screen.endAnswer();
  }
  throw new Error('the stream ended without an answer');
}

/** The policy, and which share of dense attention it did. */
function describePolicy({ prefillPolicy, sparsePrefill }: AnswerReport): string {
  if (sparsePrefill === null || sparsePrefill.sparseTokens === 0) return prefillPolicy;
  return `${prefillPolicy}, ${formatShare(sparsePrefill.density)} of dense attention`;
}

/** A text, begun anew as often as it takes. */
function repeatTo(text: string, characters: number): string {
  return text.repeat(Math.ceil(characters / text.length)).slice(0, characters);
}

async function showFigures(
  client: RouterClient,
  report: AnswerReport,
  screen: DemoScreen,
): Promise<void> {
  const prefillRate = tokensPerSecond(report.promptTokens, report.prefillMs);
  const decodeRate = tokensPerSecond(report.completionTokens - 1, report.decodeMs);
  screen.step('speed', `first token after ${formatDuration(report.timeToFirstTokenMs)}`);
  screen.detail(`prefill ${formatCount(prefillRate)} tokens/s (${describePolicy(report)})`);
  screen.detail(`decode  ${decodeRate.toFixed(1)} tokens/s (${report.cachePolicy} cache)`);
  screen.step('memory', `KV ${formatBytes(report.segmentBytes + report.privateBytes)} on the host`);
  for (const member of (await client.status()).members) {
    screen.detail(`${member.role.padEnd(7)} ${formatBytes(member.residentBytes)} resident`);
  }
}
