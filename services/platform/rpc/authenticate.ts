import type { Metadata } from '@grpc/grpc-js';
import type { CallContext } from './call-context.js';

/**
 * Says whose call it is, by its `authorization` metadata (null: none, or more than one).
 * @returns the tenant
 * @throws ServingError UNAUTHENTICATED
 */
export type Authenticate = (authorization: string | null) => string;

/** The context with the caller's tenant; unchanged where callers are not asked who they are. */
export function identified(
  context: CallContext,
  metadata: Metadata,
  authenticate: Authenticate | undefined,
): CallContext {
  if (authenticate === undefined) return context;
  const [value, ...others] = metadata.get('authorization');
  const isOne = value !== undefined && others.length === 0;
  return { ...context, tenant: authenticate(isOne ? value.toString() : null) };
}
