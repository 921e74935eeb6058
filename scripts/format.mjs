#!/usr/bin/env node
/* Rewrites every file in the house format. */
import { filesUnder } from './lib/fingerprint.mjs';
import { npmProgram } from './lib/root.mjs';
import { main, runAloud } from './lib/run.mjs';

const isCpp = (path) => /\.(cc|h)$/.test(path);

await main(async () => {
  const cpp = ['native', 'test'].flatMap((folder) => filesUnder(folder, isCpp));
  const prettier = await runAloud(npmProgram('prettier'), ['--write', '--log-level=warn', '.']);
  const clangFormat = await runAloud('clang-format', ['-i', ...cpp]);
  return Math.max(prettier, clangFormat);
});
