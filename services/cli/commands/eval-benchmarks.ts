import { type Command, Option } from 'commander';
import { benchmarkSubject } from '../eval/run/benchmark-subject.js';
import { addEvalOptions, type EvalFlags, lengthList, wordList } from './eval-options.js';
import { evaluate } from './evaluate.js';
import { integerFrom } from './option-parsers.js';

interface BenchmarkFlags extends EvalFlags {
  readonly data: string;
  readonly tasks?: readonly string[];
  readonly lengths: readonly number[];
  readonly samplesPerTask?: number;
  readonly wording?: 'base' | 'chat';
}

const INFINITEBENCH_EXAMPLES = `
Examples:
  longshadow eval infinitebench --data InfiniteBench --lengths 128K --out runs/infinitebench
  longshadow eval infinitebench --data InfiniteBench --tasks passkey,kv_retrieval --samples-per-task 100 \\
    --out runs/retrieval`;

const LONGBENCH_EXAMPLES = `
Examples:
  longshadow eval longbench --data LongBench/data --lengths 32K --out runs/longbench
  longshadow eval longbench --data LongBench/data --tasks hotpotqa,trec --out runs/two`;

/** `longshadow eval infinitebench`. */
export function addInfiniteBench(parent: Command): void {
  const command = parent
    .command('infinitebench')
    .description('InfiniteBench (arXiv:2402.13718) from its published files');
  addBenchmarkOptions(command, 131_072)
    .addOption(
      new Option('--wording <which>', 'of the two published; default: base').choices([
        'base',
        'chat',
      ]),
    )
    .addHelpText('after', INFINITEBENCH_EXAMPLES)
    .action(async (flags: BenchmarkFlags) => {
      await evaluateBenchmark('infinitebench', flags);
    });
}

/** `longshadow eval longbench`. */
export function addLongBench(parent: Command): void {
  const command = parent
    .command('longbench')
    .description('LongBench (arXiv:2308.14508) from its published files');
  addBenchmarkOptions(command, 32_768)
    .addHelpText('after', LONGBENCH_EXAMPLES)
    .action(async (flags: BenchmarkFlags) => {
      await evaluateBenchmark('longbench', flags);
    });
}

function addBenchmarkOptions(command: Command, lengthTokens: number): Command {
  return addEvalOptions(command)
    .requiredOption('--data <folder>', 'holds the published TASK.jsonl files, itself or in data/')
    .option('--tasks <list>', 'some of them; default: all that have a file', wordList)
    .option(
      '--lengths <list>',
      'tokens of prompt and answer, as 4096, 32K or 1M; longer documents lose their middle',
      lengthList,
      [lengthTokens],
    )
    .option('--samples-per-task <count>', 'from the first; default: all', integerFrom(1));
}

async function evaluateBenchmark(
  benchmark: 'infinitebench' | 'longbench',
  flags: BenchmarkFlags,
): Promise<void> {
  const { data, tasks, lengths, samplesPerTask, wording } = flags;
  await evaluate(flags, async () =>
    benchmarkSubject({ benchmark, data, tasks, lengths, samplesPerTask, wording }),
  );
}
