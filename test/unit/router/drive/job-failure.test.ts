import assert from '../../../support/assert.js';
import { describe, test } from 'node:test';
import { failureOf } from '../../../../services/router/drive/job-failure.js';

describe('a job’s failure', () => {
  test('is the error that its worker threw, with what a program needs to know', () => {
    const quota = { subject: 'value store', description: '9 of 10 bytes' };
    const thrown = {
      code: 'VALUE_STORE_FULL',
      message: 'full',
      details: { retryAfterMs: 7, quota },
    };
    const { code, message, details } = failureOf(JSON.stringify(thrown));
    assert.deepEqual({ code, message, details }, thrown);
  });

  for (const code of ['VALUE_STORE_FULL', 'RESERVATION_EXCEEDED']) {
    test(`with ${code} says when to try again and which limit it was, if the worker does not`, () => {
      const { details } = failureOf(JSON.stringify({ code, message: 'no room for 5 bytes' }));
      assert.ok((details.retryAfterMs ?? 0) > 0);
      assert.match(details.quota?.description ?? '', /5 bytes/);
    });
  }

  const bugs = [
    'Error: out of cheese',
    'null',
    '{"code":"OUT_OF_CHEESE","message":"no"}',
    '{"code":"DATA_LOSS"}',
  ];
  for (const reason of bugs) {
    test(`that reads ${reason} is INTERNAL and stays in our logs`, () => {
      const { code, message, cause } = failureOf(reason);
      assert.equal(code, 'INTERNAL');
      assert.ok(!message.includes('cheese'));
      assert.ok(cause instanceof Error && cause.message === reason);
    });
  }
});
