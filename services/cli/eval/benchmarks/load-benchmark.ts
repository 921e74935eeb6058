import { ServingError } from '../../../domain/serving-error.js';
import {
  BENCHMARK_NAMES,
  type BenchmarkDocument,
  type BenchmarkName,
  type BenchmarkOptions,
  type BenchmarkTask,
  type PromptWording,
} from './benchmark-types.js';
import { findTaskFiles, type TaskFile } from './find-task-files.js';
import { groupSamples } from './group-samples.js';
import { infiniteBenchTasks } from './infinitebench/tasks.js';
import { longBenchTasks } from './longbench/tasks.js';
import { makeBenchmarkDocument } from './make-document.js';

const TASKS: Record<BenchmarkName, (wording: PromptWording) => BenchmarkTask[]> = {
  infinitebench: infiniteBenchTasks,
  longbench: longBenchTasks,
};

/** The tasks of a benchmark. @throws ServingError BAD_REQUEST for an unknown one */
export function benchmarkTasks(name: string, wording: PromptWording = 'base'): BenchmarkTask[] {
  const known = BENCHMARK_NAMES.find((benchmark) => benchmark === name);
  if (known !== undefined) return TASKS[known](wording);
  throw new ServingError(
    'BAD_REQUEST',
    `there is no benchmark "${name}"; there are ${BENCHMARK_NAMES.join(', ')}`,
  );
}

/**
 * Reads the published JSONL files of a benchmark, checks every line, and lists its documents. Samples
 * of one context (InfiniteBench's books, LongBench's articles) are questions of one document. A
 * document's text is read, cut and counted when it is made.
 *
 * @param folder holds `<task>.jsonl`, itself or in `data`
 * @throws ServingError BAD_REQUEST for an unknown benchmark or task, a wrong folder, or a wrong line,
 *   naming what there is and what to change
 */
export async function loadBenchmark(
  name: string,
  folder: string,
  options: BenchmarkOptions,
): Promise<BenchmarkDocument[]> {
  const tasks = benchmarkTasks(name, options.wording);
  const files = await findTaskFiles(name, tasks, folder, options.tasks);
  const documents: BenchmarkDocument[] = [];
  for (const file of files) documents.push(...(await listDocuments(file, options)));
  return documents;
}

async function listDocuments(
  file: TaskFile,
  options: BenchmarkOptions,
): Promise<BenchmarkDocument[]> {
  const { name: task } = file.task;
  const groups = await groupSamples(file, options.maxSamplesPerTask ?? Infinity);
  if (groups.length === 0) {
    throw new ServingError(
      'BAD_REQUEST',
      `${file.path} gives no samples; copy the published file again, or ask for one sample or more`,
    );
  }
  return groups.map((group, index) => {
    const id = `${task}/${options.lengthTokens}/${index}`;
    return {
      id,
      task,
      questionCount: group.questions.length,
      make: async () => makeBenchmarkDocument(id, file, group, options),
    };
  });
}
