import type { CancelSessionRequest__Output } from '../../../proto/gen/longshadow/router/v1/CancelSessionRequest.js';
import type { CancelSessionResponse } from '../../../proto/gen/longshadow/router/v1/CancelSessionResponse.js';
import type { Unary } from '../../platform/rpc/unary.js';
import { requireOwnSession } from '../auth/session-owner.js';
import type { RouterDeps } from './router-deps.js';

/** Router.CancelSession: answers when the session's memory is free, if this router drives it. */
export function makeCancelSession(
  deps: RouterDeps,
): Unary<CancelSessionRequest__Output, CancelSessionResponse> {
  return async ({ sessionId }, { tenant }) => {
    await requireOwnSession(sessionId, tenant, deps.store.records);
    return { cancelled: await deps.driver.cancel(sessionId) };
  };
}
