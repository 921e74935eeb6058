#!/usr/bin/env node
/*
 * Starts a cluster, runs short evaluations of the embedded model, and fails where accuracy has dropped
 * below the floors of scripts/lib/eval-floors.mjs.
 */
import { bootstrap } from './bootstrap.mjs';
import { evalSmoke } from './lib/eval-smoke.mjs';
import { main } from './lib/run.mjs';

await main(async () => {
  console.log('Getting ready');
  await bootstrap();
  console.log('\nEvaluations');
  const start = performance.now();
  const { passed, failed } = await evalSmoke();
  const seconds = ((performance.now() - start) / 1000).toFixed(0);
  console.log(`\n${passed} cells hold, ${failed} do not (${seconds} s)`);
  return failed === 0 ? 0 : 1;
});
