/* node:test reporter for scripts/test.mjs: one JSON object with the number of each outcome. */
export default async function* counts(events) {
  const total = { passed: 0, failed: 0, skipped: 0 };
  for await (const { type, data } of events) {
    if (data.details?.type === 'suite') continue;
    if (type === 'test:fail') total.failed += 1;
    else if (type === 'test:pass') {
      const isSkipped = data.skip !== undefined && data.skip !== false;
      total[isSkipped ? 'skipped' : 'passed'] += 1;
    }
  }
  yield JSON.stringify(total);
}
