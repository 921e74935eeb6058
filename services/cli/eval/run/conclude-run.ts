import { join } from 'node:path';
import { describeError } from '../../output/describe-error.js';
import { reportRun } from './report-run.js';
import type { RunOutcome } from './run-eval.js';

/**
 * Closes a run's folder and writes the report of what it holds, also of a run that failed in the
 * middle: what was answered is kept, and a reader sees that it is not all.
 *
 * @param command repeats the run
 * @param stdout gets the tables of a run that is complete
 * @param stderr gets the names of the files
 * @throws the run's failure, after the report is written
 */
export async function concludeRun(
  { folder, total, failure }: RunOutcome,
  command: string,
  stdout: NodeJS.WritableStream,
  stderr: NodeJS.WritableStream,
): Promise<void> {
  await folder.close();
  if (failure !== null && folder.samples.length === 0) throw failure;
  const hasFailed = failure !== null;
  const done = `${String(folder.finishedDocuments)} of ${String(total ?? 'more')}`;
  try {
    const { markdown, files } = await reportRun(folder, command, hasFailed ? done : null);
    if (!hasFailed) stdout.write(`${markdown}\n`);
    stderr.write(`${[join(folder.path, 'results.jsonl'), ...files].join('\n')}\n`);
  } catch (error) {
    if (!hasFailed) throw error;
    stderr.write(`no report could be written: ${describeError(error)}\n`);
  }
  if (failure !== null) throw failure;
}
