#!/usr/bin/env node
/* Builds what is missing, then asks a question about a long book through the whole cluster. */
import { bootstrap } from './bootstrap.mjs';
import { runCli } from './lib/run-cli.mjs';
import { main } from './lib/run.mjs';

await main(async () => {
  console.log('Getting ready');
  await bootstrap();
  console.log('');
});
if (process.exitCode === 0) {
  process.exitCode = undefined;
  await runCli(['demo', ...process.argv.slice(2)]);
}
