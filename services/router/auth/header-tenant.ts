import { ServingError } from '../../domain/serving-error.js';

/**
 * A header whose tenant is the caller's: filled in where it is empty.
 *
 * @param tenant of the call (CallContext.tenant); null where API keys are off: the header decides
 * @throws ServingError PERMISSION_DENIED if the header names another tenant
 */
export function withCallersTenant<Header extends { readonly tenant: string }>(
  header: Header,
  tenant: string | null,
): Header {
  if (tenant === null || header.tenant === tenant) return header;
  if (header.tenant === '') return { ...header, tenant };
  throw new ServingError(
    'PERMISSION_DENIED',
    "the API key is not one of the header's tenant: leave `tenant` empty, or send a key of it",
    { fieldViolations: [{ field: 'tenant', description: "must be empty or the key's" }] },
  );
}
