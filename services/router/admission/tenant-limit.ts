import { ServingError } from '../../domain/serving-error.js';

/** When a tenant may ask again after it had its sessions: one of them ends meanwhile. */
const TENANT_RETRY_MS = 5_000;

/**
 * @param sessions those that the tenant has on this router, kept ones included
 * @param limit how many it may have; 0: any number
 * @throws ServingError TOO_MANY_SESSIONS
 */
export function refuseTenantAtLimit(tenant: string, sessions: number, limit: number): void {
  if (limit === 0 || sessions < limit) return;
  const most = `at most ${String(limit)} sessions of a tenant at a time`;
  throw new ServingError(
    'TOO_MANY_SESSIONS',
    `tenant "${tenant}" has ${String(sessions)} sessions here, ${most} (ROUTER_MAX_SESSIONS_PER_TENANT); ` +
      'release a kept one, or try again when one has ended',
    {
      retryAfterMs: TENANT_RETRY_MS,
      quota: { subject: `sessions of tenant "${tenant}"`, description: most },
    },
  );
}
