import assert from '../../support/assert.js';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { after, beforeEach, test } from 'node:test';
import { ROOT } from './project-files.js';

interface Step {
  readonly name: string;
  readonly isDone: () => boolean;
  readonly run: () => void | Promise<void>;
}

async function script<Exports>(path: string): Promise<Exports> {
  return (await import(new URL(`../../../scripts/lib/${path}`, import.meta.url).href)) as Exports;
}

const { runSteps } = await script<{
  runSteps: (
    steps: readonly Step[],
    options: { say: (line: string) => void; quiet: boolean },
  ) => Promise<void>;
}>('run-steps.mjs');
const { fingerprint, stampHolds, writeStamp } = await script<{
  fingerprint: (files: readonly string[], ...extra: string[]) => string;
  stampHolds: (stamp: string, value: string) => boolean;
  writeStamp: (stamp: string, value: string) => void;
}>('fingerprint.mjs');
const { installSystemPackages, missingSystemPackages } = await script<{
  installSystemPackages: (packages: readonly string[], mayInstall: boolean) => Promise<void>;
  missingSystemPackages: (options: { tests: boolean }) => string[];
}>('system-packages.mjs');

mkdirSync(join(ROOT, 'build'), { recursive: true });
const absolute = mkdtempSync(join(ROOT, 'build', 'test-steps-'));
const folder = relative(ROOT, absolute);
after(() => rmSync(absolute, { recursive: true }));

let runs: string[];
let said: string[];
beforeEach(() => {
  [runs, said] = [[], []];
});

/** A step of a build that reads one file. */
function stepOver(name: string): Step {
  const stamp = join(folder, `${name}.stamp`);
  const inputs = (): string => fingerprint([join(folder, `${name}.txt`)], 'v20');
  return {
    name,
    isDone: () => stampHolds(stamp, inputs()),
    run: () => {
      runs.push(name);
      writeStamp(stamp, inputs());
    },
  };
}

const ready = (steps: readonly Step[], quiet = false): Promise<void> =>
  runSteps(steps, { say: (line) => said.push(line), quiet });

test('a second run builds nothing, and a third only what has changed', async () => {
  writeFileSync(join(absolute, 'native.txt'), 'one');
  writeFileSync(join(absolute, 'script.txt'), 'one');
  const steps = [stepOver('native'), stepOver('script')];
  await ready(steps);
  assert.deepEqual(runs, ['native', 'script']);
  runs.length = 0;
  said.length = 0;
  await ready(steps);
  assert.deepEqual(runs, []);
  assert.match(said.join('\n'), /^ {2}native +up to date .*\n {2}script +up to date /);
  said.length = 0;
  await ready(steps, true);
  assert.deepEqual(said, []);
  writeFileSync(join(absolute, 'script.txt'), 'two');
  await ready(steps, true);
  assert.deepEqual(runs, ['script']);
});

test('a step that fails is not done at the next run', async () => {
  writeFileSync(join(absolute, 'broken.txt'), 'one');
  const step = stepOver('broken');
  const fail = (): void => {
    throw new Error('no compiler');
  };
  await assert.rejects(ready([{ ...step, run: fail }]), /no compiler/);
  await ready([step]);
  assert.deepEqual(runs, ['broken']);
});

test('without the right to install, the exact command for what is missing is told', async () => {
  const path = process.env['PATH'];
  process.env['PATH'] = absolute;
  let missing: string[];
  try {
    missing = missingSystemPackages({ tests: false });
  } finally {
    process.env['PATH'] = path;
  }
  for (const name of ['cmake', 'g++', 'redis-server']) assert.ok(missing.includes(name), name);
  await assert.rejects(installSystemPackages(['cmake', 'libdnnl-dev'], false), {
    message:
      'Longshadow needs these Debian packages: cmake libdnnl-dev\n' +
      'Install them, then run this again:\n\n' +
      '  sudo apt-get update && sudo apt-get install -y --no-install-recommends cmake libdnnl-dev\n',
  });
});
