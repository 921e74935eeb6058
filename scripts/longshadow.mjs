#!/usr/bin/env node
/* The command line program, built first where it has not been. */
import { bootstrap } from './bootstrap.mjs';
import { buildSteps, isBuilt } from './lib/build-steps.mjs';
import { runCli } from './lib/run-cli.mjs';
import { main } from './lib/run.mjs';

await main(async () => {
  if (!isBuilt()) return bootstrap({ quiet: true });
  const stale = buildSteps({ tests: false }).filter((step) => !step.isDone());
  if (stale.length > 0) {
    const names = stale.map((step) => step.name).join(', ');
    console.error(`longshadow: changed since the last build: ${names} (npm run build)`);
  }
});
if (process.exitCode === 0) {
  process.exitCode = undefined;
  await runCli(process.argv.slice(2));
}
