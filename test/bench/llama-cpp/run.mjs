#!/usr/bin/env node
/*
 * Builds the project, installs llama.cpp's binary into this folder, and runs the benchmark: JSON
 * lines on standard output. Arguments are passed on. docs/benchmarks.md says what each line means.
 */
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { bootstrap } from '../../../scripts/bootstrap.mjs';
import { fingerprint, stampHolds, writeStamp } from '../../../scripts/lib/fingerprint.mjs';
import { main, runAloud, runQuietly } from '../../../scripts/lib/run.mjs';

const FOLDER = dirname(fileURLToPath(import.meta.url));
const RELATIVE = 'test/bench/llama-cpp';
const STAMP = `${RELATIVE}/node_modules/.longshadow-stamp`;

await main(async () => {
  await bootstrap({ quiet: true });
  if (!process.argv.includes('--help')) await installLlamaCpp();
  const program = join(FOLDER, 'bench.ts');
  return runAloud(process.execPath, ['--import', 'tsx', program, ...process.argv.slice(2)]);
});

/** The package's scripts would build or download; its optional packages are binaries for GPUs. */
async function installLlamaCpp() {
  const inputs = fingerprint([`${RELATIVE}/package-lock.json`], process.version);
  if (stampHolds(STAMP, inputs)) return;
  await runQuietly(
    'npm',
    [
      'install',
      '--no-save',
      '--ignore-scripts',
      '--omit=optional',
      '--no-audit',
      '--no-fund',
      '--loglevel=warn',
    ],
    { cwd: FOLDER },
  );
  writeStamp(STAMP, inputs);
}
