import { open } from 'node:fs/promises';
import { ServingError } from '../../domain/serving-error.js';
import {
  apiKeyLine,
  newApiKey,
  parseApiKeys,
  TENANT_PATTERN,
  TENANT_RULE,
} from '../../platform/config/api-keys-file.js';
import { requirePrivate } from '../../platform/config/private-file.js';
import { describeError } from '../output/describe-error.js';

/**
 * Makes a key for a tenant and appends its digest to a file of keys, which is made (0600) where it
 * is absent.
 *
 * @returns the key, which is written nowhere
 * @throws ServingError BAD_REQUEST: a tenant that cannot be named so, or a file that is not usable
 */
export async function addApiKey(path: string, tenant: string): Promise<string> {
  if (!TENANT_PATTERN.test(tenant)) {
    throw new ServingError('BAD_REQUEST', `--tenant: want ${TENANT_RULE}`);
  }
  const key = newApiKey();
  try {
    const file = await open(path, 'a+', 0o600);
    try {
      requirePrivate(path, await file.stat(), process.geteuid?.() ?? 0);
      const before = await file.readFile('utf8');
      parseApiKeys(before); // a file with a wrong line would not be taken anyway
      const lineEnd = before === '' || before.endsWith('\n') ? '' : '\n';
      await file.appendFile(`${lineEnd}${apiKeyLine(tenant, key)}\n`);
      await file.sync();
    } finally {
      await file.close();
    }
  } catch (error) {
    throw new ServingError('BAD_REQUEST', `--file ${path}: ${describeError(error)}`);
  }
  return key;
}
