import { join } from 'node:path';
import type { Command } from 'commander';
import { DEFAULT_DENSE_BELOW_TOKENS, MAX_TILES_PER_BLOCK } from '../../domain/sparse-policy.js';
import { PATTERNS_FILE } from '../../platform/patterns/load-patterns.js';
import { formatShare } from '../output/format.js';
import { LEAST_TILES, searchCandidates } from '../patterns/candidates.js';
import { describeSearch } from '../patterns/describe-search.js';
import { keepServedFile } from '../patterns/keep-served-file.js';
import { searchPatterns } from '../patterns/search-patterns.js';
import { describePattern, showHead } from '../patterns/show-head.js';
import {
  addEngineOptions,
  addPatternsOption,
  addThreadsOption,
  type EngineFlags,
} from './engine-options.js';
import { EXIT_INTERRUPTED } from './exit-status.js';
import { integerFrom, MOST_UINT32 } from './option-parsers.js';
import { stopSignal } from './stop-signal.js';

/** Of 16,384 tokens' 256: few enough that a pattern has to choose. */
const SEARCH_TILES = 64;
/** A page, and the tail's least. */
const LEAST_TOKENS = 1_024;

interface SearchFlags extends EngineFlags {
  readonly out?: string;
  readonly tokens: number;
  readonly prompts: number;
  readonly heldOut: number;
  readonly tiles: number;
  readonly denseBelow: number;
  readonly seed: number;
  readonly texts?: string;
  readonly fresh?: boolean;
  readonly force?: boolean;
  readonly threads: number;
  readonly json?: boolean;
}

interface ShowFlags extends EngineFlags {
  readonly patterns?: string;
  readonly layer: number;
  readonly head: number;
  readonly tokens?: number;
  readonly promptFile?: string;
  readonly tiles: number;
  readonly threads: number;
  readonly out: string;
}

const SEARCH_EXAMPLES = `
Each pattern may attend to --tiles key tiles (64 keys) of a block of 64 queries. Every head gets the
pattern whose attention output is nearest to dense attention's on the calibration prompts. A search
that is stopped goes on from its last whole prompt when the same command is given again. Without --out
the result is the file that the model is served with; one that is there is replaced with --force only.

Examples:
  longshadow patterns search --model models/needle --out patterns.json
  longshadow patterns search --model models/needle --tokens 32768 --tiles 32 --out patterns-32.json`;

const SHOW_EXAMPLES = `
Examples:
  longshadow patterns show --model models/needle --layer 2 --head 1 --out head.svg
  longshadow patterns show --model models/needle --patterns patterns.json --layer 2 --head 1 \\
    --prompt-file report.txt --out head.svg`;

/** Work on the pattern files of sparse prefill. */
export function addPatternsCommand(program: Command): void {
  const patterns = program
    .command('patterns')
    .description('Find and look at the patterns of sparse prefill (minference)');
  addSearch(patterns);
  addShow(patterns);
}

function addSearch(patterns: Command): void {
  addThreadsOption(addEngineOptions(patterns.command('search')))
    .description('Find a pattern for each query head of a model, and write the pattern file')
    .option('--out <file>', `default: ${PATTERNS_FILE} in the model's folder`)
    .option('--force', 'replace the file that the model is served with')
    .option('--tokens <count>', 'of each prompt', integerFrom(LEAST_TOKENS), 16_384)
    .option('--prompts <count>', 'that patterns are chosen by', integerFrom(1, 1_000), 6)
    .option('--held-out <count>', 'that the choice is checked on', integerFrom(0, 1_000), 2)
    .option(
      '--tiles <count>',
      'most key tiles of 64 queries',
      integerFrom(LEAST_TILES, MAX_TILES_PER_BLOCK),
      SEARCH_TILES,
    )
    .option(
      '--dense-below <tokens>',
      'chunks that end here or before are dense, and nothing is tried on them',
      integerFrom(0, MOST_UINT32),
      DEFAULT_DENSE_BELOW_TOKENS,
    )
    .option('--seed <number>', 'same seed, same prompts', integerFrom(0), 1)
    .option('--texts <folder>', 'of .txt files that prose is taken from; default: Moby Dick')
    .option('--fresh', 'begin anew where an earlier search was stopped')
    .option('--json', 'the summary as one JSON object on standard output')
    .addHelpText('after', SEARCH_EXAMPLES)
    .action(search);
}

function addShow(patterns: Command): void {
  addPatternsOption(addThreadsOption(addEngineOptions(patterns.command('show'))))
    .description('Draw which key tiles a head attends to, as SVG')
    .requiredOption('--layer <number>', 'from 0', integerFrom(0))
    .requiredOption('--head <number>', 'query head, from 0', integerFrom(0))
    .option('--tokens <count>', 'of the book, 16384; or at most of the file', integerFrom(512))
    .option('--prompt-file <file>', 'text of the prompt; default: Moby Dick')
    .option(
      '--tiles <count>',
      'most key tiles of 64 queries, where the pattern file does not say',
      integerFrom(1, MAX_TILES_PER_BLOCK),
      SEARCH_TILES,
    )
    .requiredOption('--out <file>', 'SVG file to write')
    .addHelpText('after', SHOW_EXAMPLES)
    .action(show);
}

async function search(flags: SearchFlags): Promise<void> {
  const { model, threads, fresh = false, texts = null } = flags;
  const { tokens, prompts, heldOut, tiles, denseBelow, seed, device, dtype } = flags;
  const options = { tokens, prompts, heldOut, tiles, seed, device, dtype };
  const all = { ...options, denseBelowTokens: denseBelow };
  const outFile = flags.out ?? join(model, PATTERNS_FILE);
  if (flags.force !== true) await keepServedFile(model, outFile);
  const call = { modelDirectory: model, outFile, textFolder: texts, threads, fresh };
  const stop = stopSignal();
  try {
    const summary = await searchPatterns(all, call, process.stderr, stop);
    const candidates = searchCandidates(tiles);
    const json = { out: outFile, ...all, candidates, ...summary };
    process.stdout.write(
      flags.json === true ? `${JSON.stringify(json)}\n` : describeSearch(summary, all, outFile),
    );
  } catch (error) {
    if (!stop.aborted) throw error;
    process.stderr.write('stopped; the same command goes on from the last whole prompt\n');
    process.exitCode = EXIT_INTERRUPTED;
  }
}

async function show(flags: ShowFlags): Promise<void> {
  const { model, layer, head, tiles, out, device, dtype, threads } = flags;
  const stop = stopSignal();
  try {
    const shown = await showHead(
      {
        ...{ modelDirectory: model, layer, head, tiles, outFile: out, device, dtype, threads },
        patternsFile: flags.patterns ?? null,
        tokens: flags.tokens ?? null,
        promptFile: flags.promptFile ?? null,
      },
      stop,
    );
    process.stdout.write(
      `${out}: ${describePattern(shown.pattern)}, ${formatShare(shown.density)} of the keys, ` +
        `relative error ${formatShare(shown.error)}\n`,
    );
  } catch (error) {
    if (!stop.aborted) throw error;
    process.stderr.write('stopped\n');
    process.exitCode = EXIT_INTERRUPTED;
  }
}
