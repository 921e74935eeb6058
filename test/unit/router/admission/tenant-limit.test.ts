import assert from '../../../support/assert.js';
import { describe, test } from 'node:test';
import { ServingError } from '../../../../services/domain/serving-error.js';
import { refuseTenantAtLimit } from '../../../../services/router/admission/tenant-limit.js';

describe('the limit of a tenant’s sessions', () => {
  test('lets it have as many as that, and any number where there is none', () => {
    refuseTenantAtLimit('acme', 2, 3);
    refuseTenantAtLimit('acme', 1_000_000, 0);
  });

  test('names itself, the tenant and when to ask again', () => {
    assert.throws(
      () => {
        refuseTenantAtLimit('acme', 3, 3);
      },
      (error) =>
        error instanceof ServingError &&
        error.code === 'TOO_MANY_SESSIONS' &&
        error.message.includes('"acme"') &&
        error.message.includes('ROUTER_MAX_SESSIONS_PER_TENANT') &&
        (error.details.retryAfterMs ?? 0) > 0 &&
        (error.details.quota?.description ?? '').includes('at most 3'),
    );
  });
});
