import { timingSafeEqual } from 'node:crypto';
import { ServingError } from '../../domain/serving-error.js';
import { apiKeyDigest, type ApiKeyEntry } from '../../platform/config/api-keys-file.js';

const HOW =
  'send the metadata `authorization: Bearer KEY` (longshadow: --api-key, LONGSHADOW_API_KEY)';

/**
 * The tenant whose key an `authorization` value carries. Takes the same time whichever key it is,
 * and whether it is one: every entry is compared to its last byte.
 *
 * @throws ServingError UNAUTHENTICATED
 */
export function tenantOfKey(authorization: string | null, keys: readonly ApiKeyEntry[]): string {
  if (authorization === null) {
    throw new ServingError('UNAUTHENTICATED', `this router wants an API key: ${HOW}`);
  }
  const [, key] = /^Bearer +(\S+)$/i.exec(authorization) ?? [];
  if (key === undefined) {
    throw new ServingError('UNAUTHENTICATED', `the authorization is no bearer key: ${HOW}`);
  }
  const digest = apiKeyDigest(key);
  let tenant: string | null = null;
  for (const entry of keys) {
    if (timingSafeEqual(entry.digest, digest)) tenant = entry.tenant;
  }
  if (tenant !== null) return tenant;
  throw new ServingError(
    'UNAUTHENTICATED',
    'the API key is not one of this router (any more): ask its operator for another',
  );
}
