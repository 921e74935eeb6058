import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { ServingError } from '../../../domain/serving-error.js';
import type { BenchmarkTask } from './benchmark-types.js';

const SHOWN_NAMES = 12;

/** A task and where its samples are. */
export interface TaskFile {
  readonly task: BenchmarkTask;
  readonly path: string;
}

/**
 * The files of the wanted tasks (all that are there, if none are named) in a folder as it was
 * published, or in its `data`.
 *
 * @throws ServingError BAD_REQUEST for an unknown task, a folder that is none, or a file that is not
 *   there: it says what there is and what to change
 */
export async function findTaskFiles(
  benchmark: string,
  tasks: readonly BenchmarkTask[],
  folder: string,
  wanted: readonly string[] | undefined,
): Promise<TaskFile[]> {
  const chosen =
    wanted === undefined ? tasks : wanted.map((name) => findTask(benchmark, tasks, name));
  const found = await filesIn(folder, chosen);
  const missing = chosen.filter((task) => !found.some((file) => file.task === task));
  if (found.length > 0 && (wanted === undefined || missing.length === 0)) return found;
  const files = missing.map(({ name }) => fileName(name)).slice(0, SHOWN_NAMES);
  throw new ServingError(
    'BAD_REQUEST',
    `no ${files.join(', ')}${missing.length > files.length ? ', ...' : ''} in ${folder}, which holds ${await describeFolder(folder)}; name the folder of ${benchmark}'s published JSONL files`,
  );
}

function findTask(benchmark: string, tasks: readonly BenchmarkTask[], name: string): BenchmarkTask {
  const task = tasks.find((known) => known.name === name);
  if (task !== undefined) return task;
  throw new ServingError(
    'BAD_REQUEST',
    `${benchmark} has no task "${name}"; it has ${tasks.map((known) => known.name).join(', ')}`,
  );
}

async function filesIn(folder: string, tasks: readonly BenchmarkTask[]): Promise<TaskFile[]> {
  for (const place of [folder, join(folder, 'data')]) {
    const names = new Set(await namesIn(place, place === folder));
    const files = tasks
      .filter(({ name }) => names.has(fileName(name)))
      .map((task) => ({ task, path: join(place, fileName(task.name)) }));
    if (files.length > 0) return files;
  }
  return [];
}

async function namesIn(folder: string, mustBeThere: boolean): Promise<string[]> {
  try {
    return await readdir(folder);
  } catch (error) {
    if (!mustBeThere) return [];
    const code = error instanceof Error && 'code' in error ? String(error.code) : 'unknown error';
    throw new ServingError(
      'BAD_REQUEST',
      `cannot list ${folder} (${code}); name a folder with the benchmark's published JSONL files`,
      {},
      { cause: error },
    );
  }
}

async function describeFolder(folder: string): Promise<string> {
  const names = (await namesIn(folder, true)).sort();
  if (names.length === 0) return 'nothing';
  const rest = names.length - SHOWN_NAMES;
  return `${names.slice(0, SHOWN_NAMES).join(', ')}${rest > 0 ? ` and ${rest} more` : ''}`;
}

function fileName(task: string): string {
  return `${task}.jsonl`;
}
