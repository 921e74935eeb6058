import { access, constants } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { basename, dirname, resolve } from 'node:path';
import { type Command, InvalidArgumentError } from 'commander';
import { PREFILL_POLICY_NAMES, type PrefillPolicy } from '../../domain/policy.js';
import { DEFAULT_HEAD_PATTERN } from '../../domain/head-pattern.js';
import { ESTIMATE_SHARE, type SparseLaw } from '../../domain/prefill-cost.js';
import { ServingError } from '../../domain/serving-error.js';
import {
  DEFAULT_DENSE_BELOW_TOKENS,
  DEFAULT_TILES_PER_BLOCK,
  FLEX_DEFAULTS,
  MAX_TILES_PER_BLOCK,
} from '../../domain/sparse-policy.js';
import { type BenchThresholds, SERVED_THRESHOLDS } from '../bench/bench-policy.js';
import { BenchProgress } from '../bench/bench-progress.js';
import { describeBench } from '../bench/describe-bench.js';
import { drawBench } from '../bench/draw-bench.js';
import {
  type MeasuredPrefill,
  measurePrefill,
  type PrefillBench,
} from '../bench/measure-prefill.js';
import { describeError } from '../output/describe-error.js';
import { formatCount } from '../output/format.js';
import { writeWhole } from '../output/write-whole.js';
import {
  addEngineOptions,
  addPatternsOption,
  addThreadsOption,
  type EngineFlags,
} from './engine-options.js';
import { EXIT_INTERRUPTED } from './exit-status.js';
import { finiteNumber, integerFrom, MOST_UINT32 } from './option-parsers.js';
import { stopSignal } from './stop-signal.js';

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
  readonly repeats: number;
  readonly svg?: string;
  readonly json?: boolean;
}

const EXAMPLES = `
Policies take turns chunk by chunk, so that other load on the machine falls on all alike; with --repeats
the median of each chunk counts. Dense chunks from --dense-until on are not run: their time follows from
the cost law of the later half of those before, and the line says how much of it does. Tables and --json
have the totals, and what single chunks spend on attention, and on choosing keys for it.

Examples:
  longshadow bench prefill --model models/needle --tokens 131072 --policies dense,minference --json
  longshadow bench prefill --model models/needle --tokens 32768 --repeats 5 --svg prefill.svg
  longshadow bench prefill --model models/needle --tokens 524288 --policies dense,minference \\
    --dense-until 131072`;

export function addBenchCommand(program: Command): void {
  const bench = program
    .command('bench')
    .description('Measure this machine')
    .addHelpText('after', EXAMPLES);
  const prefill = addPatternsOption(addThreadsOption(addEngineOptions(bench.command('prefill'))))
    .description('Time the prefill of one prompt under several policies, on the engine alone')
    .requiredOption('--tokens <count>', 'length of the prompt', integerFrom(LEAST_TOKENS))
    .option('--policies <list>', `of ${PREFILL_POLICY_NAMES.join(', ')}`, policyList, [
      'dense',
      'minference',
    ])
    .option('--repeats <count>', 'of the whole run', integerFrom(1, 1_000), 1)
    .option('--dense-until <tokens>', 'run no dense chunk from this position on', integerFrom(1));
  addThresholds(prefill)
    .option('--json', 'one JSON object a policy on standard output')
    .option('--svg <file>', 'picture to write: seconds by position in the prompt')
    .addHelpText('after', EXAMPLES)
    .action(benchPrefill);
}

function addThresholds(command: Command): Command {
  return command
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
      shareAbove0,
      FLEX_DEFAULTS.gamma,
    )
    .option(
      '--guard-every <n>',
      'of so many (chunk, layer) pairs one has a block computed densely too, for its error; 0: none, since it costs time that is no part of a policy',
      integerFrom(0, 1_000_000),
      0,
    );
}

async function benchPrefill(flags: BenchFlags): Promise<void> {
  const bench = await toBench(flags);
  const stop = stopSignal();
  const { tokens, repeats, thresholds } = bench;
  const policies = bench.policies.map((name) => ({
    name,
    untilToken: name === 'dense' ? bench.denseUntilToken : Infinity,
    law: name === 'dense' ? null : aboutSparse(thresholds),
  }));
  const progress = new BenchProgress(process.stderr, { tokens, repeats, policies }, () =>
    performance.now(),
  );
  try {
    const measured = await measurePrefill(bench, (chunk) => progress.chunk(chunk), stop).finally(
      () => progress.stop(),
    );
    await report(measured, flags);
  } catch (error) {
    if (!stop.aborted) throw error;
    process.stderr.write('stopped; what was measured is not printed, since it is not whole\n');
    process.exitCode = EXIT_INTERRUPTED;
  }
}

/** @throws ServingError for options that do not go together */
async function toBench(flags: BenchFlags): Promise<PrefillBench> {
  const { model, tokens, policies, device, dtype, threads, repeats, gamma, svg } = flags;
  if (flags.denseUntil !== undefined && !policies.includes('dense')) {
    throw new ServingError(
      'BAD_REQUEST',
      '--dense-until is of dense prefill: name dense in --policies',
    );
  }
  if (svg !== undefined) await requireFolder(dirname(resolve(svg)));
  return {
    ...{ modelDirectory: model, tokens, policies, device, dtype, threads, repeats },
    patternsFile: flags.patterns ?? null,
    thresholds: {
      ...SERVED_THRESHOLDS,
      denseBelowTokens: flags.denseBelow,
      tilesPerBlock: flags.tilesPerBlock ?? DEFAULT_TILES_PER_BLOCK,
      tilesOverrideFile: flags.tilesPerBlock !== undefined,
      gamma,
      guardInterval: flags.guardEvery,
    },
    denseUntilToken: flags.denseUntil ?? Infinity,
  };
}

/** The lines first: they outlive a picture that cannot be written. */
async function report(measured: MeasuredPrefill, flags: BenchFlags): Promise<void> {
  const { lines, costs, instructionSet } = measured;
  const { model, device, dtype, svg } = flags;
  const threads = flags.threads === 0 ? availableParallelism() : flags.threads;
  const machine = { isa: instructionSet, device, dtype, threads };
  process.stdout.write(
    flags.json === true
      ? lines.map((line) => `${JSON.stringify({ ...line, ...machine })}\n`).join('')
      : describeBench(lines),
  );
  if (svg === undefined) return;
  const head = {
    title: `${basename(resolve(model))}: prefill of ${formatCount(flags.tokens)} tokens`,
    subtitle: `${device} (${instructionSet}), ${dtype}, ${String(threads)} threads, ${
      flags.repeats === 1 ? 'one run' : `medians of ${formatCount(flags.repeats)} runs`
    }`,
  };
  await writeWhole(svg, drawBench(head, costs));
}

/** Before an hour is spent rather than after. */
async function requireFolder(folder: string): Promise<void> {
  try {
    await access(folder, constants.W_OK);
  } catch (error) {
    const why = describeError(error);
    throw new ServingError('BAD_REQUEST', `--svg: ${why}; give a file in a folder that is there`);
  }
}

/** As if every head had the same tiles and the default pattern: near enough for the time left. */
function aboutSparse({ denseBelowTokens, tilesPerBlock }: BenchThresholds): SparseLaw {
  const headsByTiles = new Map([[tilesPerBlock, 1]]);
  const estimateShare = ESTIMATE_SHARE[DEFAULT_HEAD_PATTERN.pattern];
  return { denseBelowTokens, headsByTiles, estimateShare };
}

function shareAbove0(text: string): number {
  const share = finiteNumber(text);
  if (share > 0 && share <= 1) return share;
  throw new InvalidArgumentError('want a number above 0, at most 1.');
}

function policyList(text: string): PrefillPolicy[] {
  return [...new Set(text.split(','))].map((name) => {
    const policy = PREFILL_POLICY_NAMES.find((known) => known === name);
    if (policy === undefined) {
      throw new InvalidArgumentError(
        `${name} is no policy; want some of ${PREFILL_POLICY_NAMES.join(', ')}.`,
      );
    }
    return policy;
  });
}
