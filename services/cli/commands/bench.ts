import { type Command, InvalidArgumentError } from 'commander';
import type { PrefillPolicy } from '../../domain/policy.js';
import {
  DEFAULT_DENSE_BELOW_TOKENS,
  DEFAULT_TILES_PER_BLOCK,
  FLEX_DEFAULTS,
  MAX_TILES_PER_BLOCK,
} from '../../domain/sparse-policy.js';
import type { BenchLine } from '../bench/bench-lines.js';
import { measurePrefill } from '../bench/measure-prefill.js';
import { formatCount, formatDuration } from '../output/format.js';
import {
  addEngineOptions,
  addPatternsOption,
  addThreadsOption,
  type EngineFlags,
} from './engine-options.js';
import { finiteNumber, integerFrom, MOST_UINT32 } from './option-parsers.js';

const POLICIES: readonly PrefillPolicy[] = ['dense', 'minference', 'flexprefill'];
/** Of a prompt: 512 is a page, and the tail is 128 tokens at least. */
const LEAST_TOKENS = 1_024;

interface BenchFlags extends EngineFlags {
  readonly tokens: number;
  readonly policies: PrefillPolicy[];
  readonly threads: number;
  readonly patterns?: string;
  readonly tilesPerBlock?: number;
  readonly denseBelow: number;
  readonly gamma: number;
  readonly guardEvery: number;
  readonly denseUntil?: number;
  readonly json?: boolean;
}

const EXAMPLES = `
Policies take turns chunk by chunk, so that other load on the machine falls on all alike. Dense chunks
from --dense-until on are not run: their time follows from the cost law of those before, and the line
says how much of it does.

Examples:
  longshadow bench prefill --model models/needle --tokens 131072 --policies dense,minference --json
  longshadow bench prefill --model models/needle --tokens 524288 --policies dense,minference \\
    --dense-until 131072`;

export function addBenchCommand(program: Command): void {
  const bench = program
    .command('bench')
    .description('Measure this machine')
    .addHelpText('after', EXAMPLES);
  addPatternsOption(addThreadsOption(addEngineOptions(bench.command('prefill'))))
    .description('Time the prefill of one prompt under several policies, on the engine alone')
    .requiredOption('--tokens <count>', 'length of the prompt', integerFrom(LEAST_TOKENS))
    .option('--policies <list>', `of ${POLICIES.join(', ')}`, policyList, ['dense', 'minference'])
    .option(
      '--tiles-per-block <count>',
      `most key tiles of 64 queries, of every head; default: the pattern file's, else ${String(DEFAULT_TILES_PER_BLOCK)}`,
      integerFrom(1, MAX_TILES_PER_BLOCK),
    )
    .option(
      '--dense-below <tokens>',
      'chunks that end here or before are dense',
      integerFrom(0, MOST_UINT32),
      DEFAULT_DENSE_BELOW_TOKENS,
    )
    .option(
      '--gamma <share>',
      'FlexPrefill: attention mass to cover',
      finiteNumber,
      FLEX_DEFAULTS.gamma,
    )
    .option(
      '--guard-every <n>',
      'of so many (chunk, layer) pairs one has a block computed densely too, for its error; 0: none',
      integerFrom(0, 1_000_000),
      0,
    )
    .option('--dense-until <tokens>', 'run no dense chunk from this position on', integerFrom(1))
    .option('--json', 'one JSON object a policy on standard output')
    .addHelpText('after', EXAMPLES)
    .action(benchPrefill);
}

async function benchPrefill(flags: BenchFlags): Promise<void> {
  const { gamma } = flags;
  if (!(gamma > 0 && gamma <= 1)) throw new Error('--gamma: want a number above 0, at most 1');
  const lines = await measurePrefill(
    {
      modelDirectory: flags.model,
      tokens: flags.tokens,
      policies: flags.policies,
      device: flags.device,
      dtype: flags.dtype,
      threads: flags.threads,
      patternsFile: flags.patterns ?? null,
      sparse: {
        denseBelowTokens: flags.denseBelow,
        tilesPerBlock: flags.tilesPerBlock ?? DEFAULT_TILES_PER_BLOCK,
        tilesOverrideFile: flags.tilesPerBlock !== undefined,
        ...FLEX_DEFAULTS,
        gamma,
        guardInterval: flags.guardEvery,
      },
      denseUntilToken: flags.denseUntil ?? Infinity,
    },
    ({ policy, beginToken, endToken, result }) => {
      const seconds = (result.engineMicros / 1e6).toFixed(2);
      process.stderr.write(
        `${policy} [${String(beginToken)}, ${String(endToken)}): ${seconds} s\n`,
      );
    },
  );
  for (const line of lines) {
    process.stdout.write(`${flags.json === true ? JSON.stringify(line) : describe(line)}\n`);
  }
}

function describe(line: BenchLine): string {
  const share = (part: number): string => `${((100 * part) / line.attention_seconds).toFixed(0)} %`;
  return [
    `${line.policy.padEnd(12)} ${formatCount(line.tokens)} tokens in ${formatDuration(line.seconds * 1000)}`,
    line.speedup === null ? '' : `${line.speedup.toFixed(2)} times dense`,
    `density ${(100 * line.tile_density).toFixed(2)} %`,
    `estimate ${share(line.estimate_seconds)}, index ${share(line.index_seconds)} of attention`,
    line.guard_error_mean === null
      ? ''
      : `error ${(100 * line.guard_error_mean).toFixed(1)} % (largest ${(100 * (line.guard_error_max ?? 0)).toFixed(1)} %)`,
    line.extrapolated_seconds === 0
      ? ''
      : `of which ${formatDuration(line.extrapolated_seconds * 1000)} by the cost law`,
  ]
    .filter((part) => part !== '')
    .join(', ');
}

function policyList(text: string): PrefillPolicy[] {
  return [...new Set(text.split(','))].map((name) => {
    const policy = POLICIES.find((known) => known === name);
    if (policy === undefined) {
      throw new InvalidArgumentError(`${name} is no policy; want some of ${POLICIES.join(', ')}.`);
    }
    return policy;
  });
}
