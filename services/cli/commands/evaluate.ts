import { join } from 'node:path';
import { describeCommand } from '../eval/run/describe-command.js';
import type { EvalSubject } from '../eval/run/eval-subject.js';
import { reportRun } from '../eval/run/report-run.js';
import { runEval } from '../eval/run/run-eval.js';
import { type EvalFlags, toEvalOptions } from './eval-options.js';
import { EXIT_INTERRUPTED } from './exit-status.js';
import { openRouters } from './router-options.js';
import { stopSignal } from './stop-signal.js';

/** Runs to the end and writes the report, or until a signal; what is begun in the cluster is ended either way. */
export async function evaluate(
  flags: EvalFlags,
  makeSubject: () => Promise<EvalSubject>,
): Promise<void> {
  const subject = await makeSubject();
  const routers = openRouters(flags);
  const stop = stopSignal();
  try {
    const folder = await runEval(routers, subject, toEvalOptions(flags), process.stderr, stop);
    await folder.close();
    const { markdown, files } = await reportRun(folder, describeCommand(process.argv.slice(2)));
    process.stdout.write(`${markdown}\n`);
    process.stderr.write(`${[join(folder.path, 'results.jsonl'), ...files].join('\n')}\n`);
  } catch (error) {
    if (!stop.aborted) throw error;
    process.stderr.write(`stopped; the same command goes on with ${flags.out}\n`);
    process.exitCode = EXIT_INTERRUPTED;
  } finally {
    routers.close();
  }
}
