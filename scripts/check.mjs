#!/usr/bin/env node
/*
 * Everything that must hold before a change is merged, cheapest first. Goes on after a failure so
 * that one run shows all of them. The tests that need a running cluster are in `npm test`.
 */
import { bootstrap } from './bootstrap.mjs';
import { filesUnder } from './lib/fingerprint.mjs';
import { ROOT, npmProgram } from './lib/root.mjs';
import { capture, main } from './lib/run.mjs';
import { join } from 'node:path';

const isCpp = (path) => /\.(cc|h)$/.test(path);
const cppFiles = () => ['native', 'test'].flatMap((folder) => filesUnder(folder, isCpp));

const CHECKS = [
  { name: 'format', run: () => npmTool('prettier', '--check', '--log-level=warn', '.') },
  {
    name: 'C++ format',
    run: () => capture('clang-format', ['--dry-run', '-Werror', ...cppFiles()]),
  },
  { name: 'lint', run: () => npmTool('eslint', '--max-warnings=0', '.') },
  { name: 'types', run: () => npmTool('tsc', '-p', 'tsconfig.json', '--noEmit') },
  {
    name: 'imports',
    run: () => npmTool('depcruise', '--output-type=err', 'services', 'native/ts', 'test'),
  },
  { name: 'proto', run: () => npmTool('buf', 'lint', 'proto') },
  { name: 'unit tests', run: () => testStages('unit') },
  { name: 'C++ tests', run: () => testStages('native', 'sanitized') },
];

const npmTool = (name, ...args) => capture(npmProgram(name), args);
const testStages = (...names) =>
  capture(process.execPath, [join(ROOT, 'scripts', 'test.mjs'), `--only=${names.join(',')}`]);

await main(async () => {
  await bootstrap({ tests: true, quiet: true });
  let failures = 0;
  for (const check of CHECKS) {
    const start = performance.now();
    const { code, reason, output } = await check.run();
    const seconds = ((performance.now() - start) / 1000).toFixed(1);
    console.log(
      `${code === 0 ? 'ok    ' : 'FAILED'}  ${check.name.padEnd(12)}${seconds.padStart(6)} s`,
    );
    if (code === 0) continue;
    failures += 1;
    console.log(`${output.trimEnd()}\n(${reason})\n`);
  }
  return failures === 0 ? 0 : 1;
});
