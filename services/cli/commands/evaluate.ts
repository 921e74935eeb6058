import { concludeRun } from '../eval/run/conclude-run.js';
import { describeCommand } from '../eval/run/describe-command.js';
import type { EvalSubject } from '../eval/run/eval-subject.js';
import { runEval } from '../eval/run/run-eval.js';
import { type EvalFlags, toEvalOptions } from './eval-options.js';
import { EXIT_INTERRUPTED } from './exit-status.js';
import { openRouters } from './router-options.js';
import { stopSignal } from './stop-signal.js';

/** Runs to the end, a failure or a signal, and writes the report of what there is; what is begun in the cluster is ended either way. */
export async function evaluate(
  flags: EvalFlags,
  makeSubject: () => Promise<EvalSubject>,
): Promise<void> {
  const subject = await makeSubject();
  const routers = openRouters(flags);
  const stop = stopSignal();
  try {
    const outcome = await runEval(routers, subject, toEvalOptions(flags), process.stderr, stop);
    const command = describeCommand(process.argv.slice(2));
    await concludeRun(outcome, command, process.stdout, process.stderr);
  } catch (error) {
    if (!stop.aborted) throw error;
    process.stderr.write(`stopped; the same command goes on with ${flags.out}\n`);
    process.exitCode = EXIT_INTERRUPTED;
  } finally {
    routers.close();
  }
}
