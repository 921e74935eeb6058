#!/usr/bin/env node
/*
 * From a fresh clone to a cluster that runs: system packages, npm packages, generated types, the
 * native add-on, JavaScript. Uses nothing but Node, since nothing else is there yet.
 *
 *   node scripts/bootstrap.mjs [--tests] [--quiet]
 */
import { pathToFileURL } from 'node:url';
import { buildSteps } from './lib/build-steps.mjs';
import { runSteps } from './lib/run-steps.mjs';
import { Stop, main } from './lib/run.mjs';

const OLDEST_NODE = [20, 17];

/**
 * @param options.tests  also get what only the tests need
 * @param options.quiet  print only steps that have work to do, on standard error
 * @throws Stop if a step fails, with what to do
 */
export async function bootstrap({ tests = false, quiet = false } = {}) {
  requireNode();
  await runSteps(buildSteps({ tests }), { say: quiet ? console.error : console.log, quiet });
}

function requireNode() {
  const [major, minor] = process.versions.node.split('.').map(Number);
  const [wantMajor, wantMinor] = OLDEST_NODE;
  if (major > wantMajor || (major === wantMajor && minor >= wantMinor)) return;
  throw new Stop(
    `Longshadow needs Node ${OLDEST_NODE.join('.')} or newer; this is ${process.version}.`,
  );
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  const flags = new Set(process.argv.slice(2));
  await main(() => bootstrap({ tests: flags.has('--tests'), quiet: flags.has('--quiet') }));
}
