import assert from '../../support/assert.js';
import { test } from 'node:test';
import { formatTraceparent, parseTraceparent } from '../../../services/platform/tracing.js';

const traceId = '4bf92f3577b34da6a3ce929d0e0e4736';
const spanId = '00f067aa0ba902b7';

test('a traceparent is read and written back', () => {
  const header = `00-${traceId}-${spanId}-01`;
  const context = parseTraceparent(header);
  assert.deepEqual(context, { traceId, spanId, sampled: true });
  assert.equal(formatTraceparent({ traceId, spanId, sampled: true }), header);
  assert.equal(parseTraceparent(`00-${traceId}-${spanId}-02`)?.sampled, false);
  assert.equal(parseTraceparent(`cc-${traceId}-${spanId}-01-what-comes`)?.traceId, traceId);
});

const bad = [
  '',
  null,
  undefined,
  `00-${traceId}-${spanId}`,
  `00-${traceId}-${spanId}-01-more`,
  `ff-${traceId}-${spanId}-01`,
  `00-${'0'.repeat(32)}-${spanId}-01`,
  `00-${traceId}-${'0'.repeat(16)}-01`,
  `00-${traceId.toUpperCase()}-${spanId}-01`,
];
for (const header of bad) {
  test(`"${String(header)}" is no traceparent`, () => {
    assert.equal(parseTraceparent(header), null);
  });
}
