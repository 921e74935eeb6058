import type {
  BenchmarkDocument,
  BenchmarkName,
  PromptWording,
} from '../benchmarks/benchmark-types.js';
import { findTaskFiles } from '../benchmarks/find-task-files.js';
import { benchmarkTasks, loadBenchmark } from '../benchmarks/load-benchmark.js';
import type { EvalSubject } from './eval-subject.js';
import { filesFingerprint } from './fingerprint-files.js';
import type { PromptHalves } from './prompt-halves.js';

/** Which published samples are asked. */
export interface BenchmarkChoice {
  readonly benchmark: BenchmarkName;
  /** Folder of the published JSONL files. */
  readonly data: string;
  /** Undefined: every task that has a file. */
  readonly tasks: readonly string[] | undefined;
  /** Tokens of prompt and answer; longer documents lose their middle. */
  readonly lengths: readonly number[];
  /** Of each file, from the first; undefined: all. */
  readonly samplesPerTask: number | undefined;
  readonly wording: PromptWording | undefined;
}

/** @throws ServingError BAD_REQUEST for an unknown task, a wrong folder or a wrong line */
export async function benchmarkSubject(choice: BenchmarkChoice): Promise<EvalSubject> {
  const { benchmark, data, samplesPerTask, wording } = choice;
  const lengths = [...choice.lengths].sort((a, b) => a - b);
  // Files are checked before the cluster is asked for its model, whose tokenizer counts later on.
  const late = new LateHalves();
  const documents: BenchmarkDocument[] = [];
  for (const lengthTokens of lengths) {
    const loaded = await loadBenchmark(benchmark, data, {
      lengthTokens,
      countTokens: async (text) => late.halves.countTokens(text),
      templateTokens: async (chat) => late.halves.frameTokens(chat),
      ...(choice.tasks === undefined ? {} : { tasks: choice.tasks }),
      ...(samplesPerTask === undefined ? {} : { maxSamplesPerTask: samplesPerTask }),
      ...(wording === undefined ? {} : { wording }),
    });
    documents.push(...loaded);
  }
  const known = benchmarkTasks(benchmark, wording);
  const files = await findTaskFiles(benchmark, known, data, choice.tasks);
  return {
    ...{ benchmark, lengths, seed: 0 },
    tasks: [...new Set(documents.map(({ task }) => task))],
    documents: documents.length,
    options: {
      data: await filesFingerprint(files.map(({ path }) => path)),
      samplesPerTask: samplesPerTask ?? 'all',
      wording: wording ?? 'base',
    },
    documentSources: async (halves) => {
      late.halves = halves;
      return Promise.resolve(documents);
    },
  };
}

/** Known when the model is. */
class LateHalves {
  #halves: PromptHalves | null = null;

  get halves(): PromptHalves {
    if (this.#halves === null) throw new Error('a document is made before its model is known');
    return this.#halves;
  }

  set halves(halves: PromptHalves) {
    this.#halves = halves;
  }
}
