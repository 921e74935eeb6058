import type { ReleaseSessionRequest__Output } from '../../../proto/gen/longshadow/router/v1/ReleaseSessionRequest.js';
import type { ReleaseSessionResponse } from '../../../proto/gen/longshadow/router/v1/ReleaseSessionResponse.js';
import type { Unary } from '../../platform/rpc/unary.js';
import { requireOwnSession } from '../auth/session-owner.js';
import type { RouterDeps } from './router-deps.js';

/** Router.ReleaseSession: ends a kept session before its time. */
export function makeReleaseSession(
  deps: RouterDeps,
): Unary<ReleaseSessionRequest__Output, ReleaseSessionResponse> {
  return async ({ sessionId }, { tenant }) => {
    await requireOwnSession(sessionId, tenant, deps.store.records);
    return { released: await deps.driver.release(sessionId) };
  };
}
