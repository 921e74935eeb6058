/* node:test reporter for people: failures in full, skips with their reason, and nothing else. */
import { inspect } from 'node:util';

export default async function* failures(events) {
  for await (const { type, data } of events) {
    if (type === 'test:fail' && data.details?.error?.failureType !== 'subtestsFailed') {
      const where = data.file === undefined ? '' : ` (${data.file}:${data.line ?? 1})`;
      const error = data.details?.error;
      yield `FAIL ${data.name}${where}\n${inspect(error?.cause ?? error)}\n\n`;
    } else if (type === 'test:pass' && isSkipped(data)) {
      const reason = typeof data.skip === 'string' ? `: ${data.skip}` : '';
      yield `skip ${data.name}${reason}\n`;
    } else if (type === 'test:stderr') {
      yield data.message;
    }
  }
}

function isSkipped(data) {
  return data.skip !== undefined && data.skip !== false;
}
