import { randomInt } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { evalSmoke } from './eval-smoke.mjs';
import { filesUnder } from './fingerprint.mjs';
import { buildNative } from './native-build.mjs';
import { capture, runAloud, Stop } from './run.mjs';

/** No single test may take longer; a hang then fails by name instead of by the whole run. */
const TEST_TIMEOUT_MS = 300_000;
/** A file of faults holds a dozen cases of ten seconds each; a case has a limit of its own. */
const FAULT_FILE_TIMEOUT_MS = 1_200_000;

/**
 * The stages of `npm test`, cheapest first. Each resolves to how many tests passed, failed and
 * were skipped, and `unsteady`: the tests that passed at the second attempt only. A stage that cannot
 * run counts as one failure.
 */
export const TEST_STAGES = [
  { name: 'unit', run: () => nodeTests('test/unit') },
  { name: 'native', run: nativeTests },
  { name: 'sanitized', run: sanitizedTests },
  { name: 'binding', run: () => nodeTests('test/binding') },
  { name: 'integration', run: () => nodeTests('test/integration', { concurrency: 1 }) },
  { name: 'e2e', run: () => nodeTests('test/e2e', { concurrency: 1 }) },
  { name: 'eval', run: evalSmoke },
  { name: 'faults', run: () => faultTests() },
];

/**
 * Test files are named here because Node 20 expands no patterns itself.
 * `only` picks files by their names without `.test.ts`; `timeoutMs` bounds a test and a file alike.
 *
 * A file that fails is run once more, by itself: tests of real processes against real clocks share
 * their machine with others. What failed at first is then named, in `unsteady`.
 */
export async function nodeTests(
  folder,
  { concurrency = 2, only = [], env = {}, timeoutMs = TEST_TIMEOUT_MS } = {},
) {
  const files = filesUnder(folder, (path) => path.endsWith('.test.ts')).filter(
    (path) => only.length === 0 || only.includes(basename(path, '.test.ts')),
  );
  if (files.length === 0) throw new Stop(`${folder} has no tests: they are missing or misnamed`);
  const first = await runTestFiles(files, { concurrency, env, timeoutMs });
  const again = filesToRepeat(first.byFile, files);
  if (again.length === 0) return withExitStatus(total(first.byFile), first.code);
  console.log(`  once more, by itself: ${again.join(' ')}`);
  const second = await runTestFiles(again, { concurrency: 1, env, timeoutMs });
  const counts = withExitStatus(total({ ...first.byFile, ...second.byFile }), second.code);
  const failures = Object.values(first.byFile).flatMap((file) => file.failures);
  return { ...counts, unsteady: counts.failed === 0 ? failures : [] };
}

/** Many failures are no accident: what is broken fails at once, not twice. */
const MOST_REPEATED_FILES = 3;

/**
 * @param byFile what the counts reporter wrote: a test belongs to the file that calls test(), which may
 *   be a helper that several of `files` import
 * @returns the files to run again, those with failures, if they are few
 */
export function filesToRepeat(byFile, files) {
  const failed = Object.keys(byFile).filter((file) => byFile[file].failed > 0);
  if (failed.length > MOST_REPEATED_FILES) return [];
  const suspects = failed.map((name) =>
    files.includes(name) ? [name] : files.filter((file) => imports(file, name)),
  );
  return suspects.some((list) => list.length === 0) ? [] : [...new Set(suspects.flat())];
}

function imports(file, helper) {
  return readFileSync(file, 'utf8').includes(`/${basename(helper, '.ts')}.js'`);
}

async function runTestFiles(files, { concurrency, env, timeoutMs }) {
  return withScratchFile('counts.json', async (counts) => {
    const args = [
      ...['--import', 'tsx', '--test', `--test-concurrency=${concurrency}`],
      ...[`--test-timeout=${timeoutMs}`],
      ...['--test-reporter=./scripts/lib/test-reporters/failures.mjs'],
      ...['--test-reporter-destination=stdout'],
      ...['--test-reporter=./scripts/lib/test-reporters/counts.mjs'],
      ...[`--test-reporter-destination=${counts}`],
      ...files,
    ];
    const code = await runAloud(process.execPath, args, { env });
    return { byFile: JSON.parse(readFileSync(counts, 'utf8')), code };
  });
}

function total(byFile) {
  const sum = { passed: 0, failed: 0, skipped: 0 };
  for (const counts of Object.values(byFile)) {
    for (const outcome of Object.keys(sum)) sum[outcome] += counts[outcome];
  }
  return sum;
}

/**
 * What fails in a cluster and how it recovers: real processes, a real Redis, real signals. The short
 * form unless `env` says otherwise; the seed of its timing is printed and repeats it.
 */
export async function faultTests({ seed = randomInt(2 ** 31), env = {}, ...options } = {}) {
  console.log(`  LONGSHADOW_FAULT_SEED=${seed}`);
  return nodeTests('test/faults', {
    timeoutMs: FAULT_FILE_TIMEOUT_MS,
    ...options,
    concurrency: 1,
    env: { LONGSHADOW_FAULT_SEED: String(seed), ...env },
  });
}

/** Tests that read untrusted bytes, thousands of mutated files among them. */
const UNTRUSTED =
  '^(Safetensors|WeightFiles|ModelConfig|HandOff|PrefillSession|DecodeSession|ValueStore)';
const MUTATIONS = 'Mutat';

/** C++ unit tests, and the conformance suite on each instruction set. */
async function nativeTests() {
  await buildNative({ folder: 'build/dev', targets: ['native_tests', 'conformance_tests'] });
  return ctest('build/dev', ['--exclude-regex', MUTATIONS]);
}

/** What reads untrusted bytes, under AddressSanitizer and UBSan: errors are fine, crashes are not. */
async function sanitizedTests() {
  await buildNative({ folder: 'build/asan', targets: ['native_tests'], sanitize: true });
  return ctest('build/asan', ['--tests-regex', UNTRUSTED]);
}

function ctest(folder, selection) {
  return withScratchFile('ctest.xml', async (report) => {
    const { code, output } = await capture('ctest', [
      ...['--test-dir', folder, '--output-on-failure', '--no-tests=error', '--parallel', '2'],
      ...['--timeout', String(TEST_TIMEOUT_MS / 1000), '--output-junit', report, ...selection],
    ]);
    const isWorthShowing = (line) => !/^\s*Start +\d+:|^ *\d+\/\d+ Test .* Passed /.test(line);
    if (code !== 0) console.log(output.split('\n').filter(isWorthShowing).join('\n'));
    return withExitStatus(countJunit(readFileSync(report, 'utf8')), code);
  });
}

function countJunit(xml) {
  const attribute = (name) => Number(new RegExp(`\\b${name}="(\\d+)"`).exec(xml)?.[1] ?? 0);
  const failed = attribute('failures');
  const skipped = attribute('skipped') + attribute('disabled');
  return { passed: attribute('tests') - failed - skipped, failed, skipped };
}

/** A runner that ends badly without naming a failed test has failed all the same. */
function withExitStatus(counts, code) {
  return code === 0 || counts.failed > 0 ? counts : { ...counts, failed: 1 };
}

async function withScratchFile(name, use) {
  const folder = mkdtempSync(join(tmpdir(), 'longshadow-test-'));
  try {
    return await use(join(folder, name));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
