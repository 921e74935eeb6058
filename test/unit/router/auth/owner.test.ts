import assert from '../../../support/assert.js';
import { test } from 'node:test';
import { withCallersTenant } from '../../../../services/router/auth/header-tenant.js';
import { isOwn, requireOwnSession } from '../../../../services/router/auth/session-owner.js';

const ID = '0123456789abcdef0123456789abcdef';
const OTHER = 'f'.repeat(32);
const records = {
  load: (sessionId: string) => Promise.resolve(sessionId === ID ? { tenant: 'acme' } : null),
};

test("a header's tenant is filled in from the key and may not name another", () => {
  const header = { tenant: '', model: 'm' };
  assert.deepEqual(withCallersTenant(header, 'acme'), { tenant: 'acme', model: 'm' });
  assert.deepEqual(withCallersTenant({ tenant: 'acme' }, 'acme'), { tenant: 'acme' });
  assert.throws(() => withCallersTenant({ tenant: 'zoo' }, 'acme'), {
    code: 'PERMISSION_DENIED',
    message: /leave `tenant` empty/,
  });
  assert.deepEqual(withCallersTenant({ tenant: 'zoo' }, null), { tenant: 'zoo' }, 'keys are off');
});

test('a session is its own tenant’s; without keys it is everyone’s', async () => {
  await requireOwnSession(ID, 'acme', records);
  await requireOwnSession(ID, null, records);
  await requireOwnSession(OTHER, null, records);
  assert.ok(isOwn({ tenant: 'acme' }, 'acme') && isOwn({ tenant: 'acme' }, null));
  assert.ok(!isOwn({ tenant: 'acme' }, 'zoo') && !isOwn({ tenant: '' }, 'zoo'));
});

test("another tenant's session answers word for word as one that is not there", async () => {
  const said = async (sessionId: string, tenant: string): Promise<string> => {
    const error = await requireOwnSession(sessionId, tenant, records).then(
      () => null,
      (failure: unknown) => failure,
    );
    assert.ok(error instanceof Error && 'code' in error && 'details' in error);
    return JSON.stringify([error.code, error.message.replace(sessionId, 'ID'), error.details]);
  };
  assert.equal(await said(ID, 'zoo'), await said(OTHER, 'acme'));
  assert.match(await said(ID, 'zoo'), /SESSION_NOT_FOUND/);
});

test('what is no session id is refused before anything is looked up', async () => {
  const untouched = { load: () => assert.fail('looked up') };
  for (const id of ['', '../../../../../../../../../etc/pas', ID.toUpperCase(), `${ID}\n`]) {
    for (const tenant of ['acme', null]) {
      await assert.rejects(requireOwnSession(id, tenant, untouched), { code: 'BAD_REQUEST' });
    }
  }
});
