#!/usr/bin/env node
/*
 * Builds and runs the native benchmarks: JSON lines on standard output. Arguments are passed on.
 * docs/benchmarks.md says what each line means.
 */
import { bootstrap } from './bootstrap.mjs';
import { join } from 'node:path';
import { buildNative } from './lib/native-build.mjs';
import { ROOT } from './lib/root.mjs';
import { main, runAloud } from './lib/run.mjs';

const HELP = `npm run bench:native                 all cases
npm run bench:native -- matmul       some: matmul, prefill, sparse, blocks, decode, estimate
docs/benchmarks.md says what the JSON lines mean.`;

await main(async () => {
  // Without a build, which takes minutes.
  if (process.argv.includes('--help')) return console.log(HELP);
  await bootstrap({ tests: true, quiet: true });
  await buildNative({ folder: 'build/dev', targets: ['native_bench'] });
  return runAloud(join(ROOT, 'build/dev/test/native/native_bench'), process.argv.slice(2));
});
