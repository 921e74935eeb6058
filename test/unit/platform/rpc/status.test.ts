import assert from '../../../support/assert.js';
import { test } from 'node:test';
import { Metadata, status, type ServiceError } from '@grpc/grpc-js';
import { ERROR_CODES, ServingError } from '../../../../services/domain/serving-error.js';
import { fromStatus, STATUS_BY_CODE, toStatus } from '../../../../services/platform/rpc/status.js';
import { encodeStatusDetails } from '../../../../services/platform/rpc/status-details.js';

function serviceError(wire: { code: status; details: string; metadata?: Metadata }): ServiceError {
  const metadata = wire.metadata ?? new Metadata();
  return Object.assign(new Error(wire.details), { ...wire, metadata });
}

test('every code has a status, and only safe retries are UNAVAILABLE', () => {
  assert.deepEqual(Object.keys(STATUS_BY_CODE).sort(), [...ERROR_CODES].sort());
  const unavailable = ERROR_CODES.filter((code) => STATUS_BY_CODE[code] === status.UNAVAILABLE);
  assert.deepEqual(unavailable, [
    'NO_WORKER',
    'NO_DECODE',
    'WORKER_LOST',
    'DECODE_LOST',
    'REDIS_UNAVAILABLE',
    'SESSION_LOST',
    'UPLOAD_LOST',
    'SHUTTING_DOWN',
  ]);
});

for (const code of ERROR_CODES) {
  test(`${code} survives the wire with its message and details`, () => {
    const details = {
      fieldViolations: [
        { field: 'sampling.top_p', description: 'must be in (0, 1]' },
        { field: 'stop', description: 'ä' },
      ],
      retryAfterMs: 61_250,
      quota: { subject: 'tenant', description: 'ten sessions' },
    };
    const wire = toStatus(new ServingError(code, 'what: to\nchange %', details));
    assert.equal(wire.code, STATUS_BY_CODE[code]);
    assert.equal(wire.details, `${code}: what: to\nchange %`);
    const back = fromStatus(serviceError(wire));
    assert.equal(back.code, code);
    assert.equal(back.message, 'what: to\nchange %');
    assert.deepEqual(back.details, details);
  });
}

test("a bug's message stays here", () => {
  for (const thrown of [new Error('secret'), 'secret', null, { code: 3, details: 'secret' }]) {
    const wire = toStatus(thrown);
    assert.equal(wire.code, status.INTERNAL);
    assert.match(wire.details, /internal error$/);
    assert.doesNotMatch(wire.details, /secret/);
  }
});

test('a message that gRPC cannot carry is cut and mended', () => {
  const wire = toStatus(new ServingError('BAD_REQUEST', `\ud800${'x'.repeat(100_000)}`));
  assert.doesNotThrow(() => encodeURI(wire.details));
  assert.ok(wire.details.length < 1_100);
});

test('details too large for trailers are left out, the message is not', () => {
  const fieldViolations = Array.from({ length: 1_000 }, (_, i) => ({
    field: `f${String(i)}`,
    description: 'bad',
  }));
  const wire = toStatus(new ServingError('BAD_REQUEST', 'many', { fieldViolations }));
  assert.equal(wire.details, 'BAD_REQUEST: many');
  assert.deepEqual(wire.metadata.getMap(), {});
});

const transport = [
  { code: status.UNAVAILABLE, want: 'DECODE_LOST' },
  { code: status.CANCELLED, want: 'CANCELLED' },
  { code: status.DEADLINE_EXCEEDED, want: 'DEADLINE_EXCEEDED' },
  { code: status.RESOURCE_EXHAUSTED, want: 'MESSAGE_TOO_LARGE' },
  { code: status.UNKNOWN, want: 'INTERNAL' },
] as const;
for (const { code, want } of transport) {
  test(`a bare ${status[code]} of the transport becomes ${want}`, () => {
    const error = serviceError({ code, details: 'Connection dropped' });
    assert.equal(fromStatus(error, 'DECODE_LOST').code, want);
  });
}

test('a code name that is not ours is not believed', () => {
  const error = serviceError({ code: status.UNAVAILABLE, details: 'NONSENSE: x' });
  assert.equal(fromStatus(error).code, 'WORKER_LOST');
});

test('damaged details are no details', () => {
  const metadata = new Metadata();
  metadata.set('grpc-status-details-bin', Buffer.from([0xff, 0xff, 0xff]));
  const error = serviceError({ code: status.NOT_FOUND, details: 'SESSION_NOT_FOUND: x', metadata });
  assert.deepEqual(fromStatus(error).details, {});
});

test('details are the bytes of google.rpc.Status, field for field', () => {
  const bytes = encodeStatusDetails(8, 'm', { retryAfterMs: 1_500 });
  const url = 'type.googleapis.com/google.rpc.RetryInfo';
  // RetryInfo { retry_delay = 1: Duration { seconds = 1: 1, nanos = 2: 500000000 } }
  const retryInfo = Buffer.from('0a0808011080cab5ee01', 'hex');
  const any = Buffer.concat([
    Buffer.from([0x0a, url.length]),
    Buffer.from(url),
    Buffer.from([0x12, retryInfo.length]),
    retryInfo,
  ]);
  const want = Buffer.concat([
    Buffer.from([0x08, 8, 0x12, 1]),
    Buffer.from('m'),
    Buffer.from([0x1a, any.length]),
    any,
  ]);
  assert.deepEqual(bytes, want);
});
