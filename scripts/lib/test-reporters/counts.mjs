/*
 * node:test reporter for scripts/test.mjs: one JSON object with, for each file that calls test(), the
 * number of each outcome and the names of what failed:
 * {"test/unit/a.test.ts": {"passed": 3, "failed": 0, "skipped": 1, "failures": []}}.
 */
import { relative } from 'node:path';

export default async function* counts(events) {
  const byFile = {};
  for await (const { type, data } of events) {
    if (data.details?.type === 'suite') continue;
    const outcome = outcomeOf(type, data);
    if (outcome === null) continue;
    // A file that ends before it names a test, or takes too long, is itself the test that failed.
    const file = relative(process.cwd(), data.file ?? data.name);
    byFile[file] ??= { passed: 0, failed: 0, skipped: 0, failures: [] };
    byFile[file][outcome] += 1;
    if (outcome === 'failed') byFile[file].failures.push(data.name);
  }
  yield JSON.stringify(byFile);
}

function outcomeOf(type, { skip }) {
  if (type === 'test:fail') return 'failed';
  if (type !== 'test:pass') return null;
  return skip !== undefined && skip !== false ? 'skipped' : 'passed';
}
