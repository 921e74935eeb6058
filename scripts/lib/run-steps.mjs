/**
 * Runs steps in order, each only if it has work to do, and says so.
 *
 * @param steps  `{ name, isDone, run }`, see buildSteps()
 * @param options.say    takes each line
 * @param options.quiet  say nothing of steps that have no work
 */
export async function runSteps(steps, { say, quiet }) {
  for (const step of steps) {
    const start = performance.now();
    const isDone = step.isDone();
    if (isDone && quiet) continue;
    if (!isDone) await step.run();
    const seconds = ((performance.now() - start) / 1000).toFixed(1);
    say(
      `  ${step.name.padEnd(18)}${isDone ? 'up to date' : 'done'.padEnd(10)}${seconds.padStart(8)} s`,
    );
  }
}
