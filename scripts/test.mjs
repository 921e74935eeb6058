#!/usr/bin/env node
/*
 * Builds what is missing, then runs every test, stage by stage.
 *
 *   node scripts/test.mjs [--only STAGE]...
 *
 * The last line is `N passed, N failed, N skipped`; the exit status is 1 if anything failed.
 */
import { bootstrap } from './bootstrap.mjs';
import { Stop, main } from './lib/run.mjs';
import { TEST_STAGES } from './lib/test-stages.mjs';

await main(async () => {
  const stages = chosenStages(process.argv.slice(2));
  console.log('Getting ready');
  await bootstrap({ tests: true });
  const unsteady = [];
  const total = { passed: 0, failed: 0, skipped: 0 };
  for (const stage of stages) {
    console.log(`\n${stage.name}`);
    const start = performance.now();
    const counts = await runStage(stage);
    const seconds = ((performance.now() - start) / 1000).toFixed(1);
    console.log(`  ${stage.name.padEnd(12)}${summary(counts)}  (${seconds} s)`);
    for (const outcome of Object.keys(total)) total[outcome] += counts[outcome];
    unsteady.push(...(counts.unsteady ?? []));
  }
  for (const name of unsteady) console.log(`\npassed at the second attempt only: ${name}`);
  console.log(`\n${summary(total)}`);
  return total.failed === 0 ? 0 : 1;
});

function chosenStages(args) {
  const names = args
    .filter((arg) => arg !== '--only')
    .flatMap((arg) => arg.replace(/^--only=/, '').split(','));
  const unknown = names.find((name) => !TEST_STAGES.some((stage) => stage.name === name));
  if (unknown !== undefined) {
    throw new Stop(`no stage "${unknown}"; there are ${TEST_STAGES.map((s) => s.name).join(', ')}`);
  }
  return names.length === 0 ? TEST_STAGES : TEST_STAGES.filter((s) => names.includes(s.name));
}

async function runStage(stage) {
  try {
    return await stage.run();
  } catch (error) {
    console.error(error instanceof Stop ? error.message : error);
    return { passed: 0, failed: 1, skipped: 0 };
  }
}

function summary({ passed, failed, skipped }) {
  return `${passed} passed, ${failed} failed, ${skipped} skipped`;
}
