import type { ForkRequest__Output } from '../../../proto/gen/longshadow/router/v1/ForkRequest.js';
import type { ForkResponse } from '../../../proto/gen/longshadow/router/v1/ForkResponse.js';
import type { Unary } from '../../platform/rpc/unary.js';
import { requireOwnSession } from '../auth/session-owner.js';
import type { RouterDeps } from './router-deps.js';

/** Router.Fork: a second session of a kept one, which shares its segments. */
export function makeFork(deps: RouterDeps): Unary<ForkRequest__Output, ForkResponse> {
  return async ({ sessionId, keepSessionMs }, { tenant }) => {
    await requireOwnSession(sessionId, tenant, deps.store.records);
    const forked = await deps.driver.fork(sessionId, Number(keepSessionMs));
    return { ...forked, keptUntilUnixMs: Math.round(forked.keptUntilUnixMs) };
  };
}
