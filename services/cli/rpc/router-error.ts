import { status, type ServiceError } from '@grpc/grpc-js';
import { ServingError } from '../../domain/serving-error.js';
import { fromStatus } from '../../platform/rpc/status.js';

/** The router cannot be reached: no code of ours, since nobody of ours answered. */
export class RouterUnreachable extends Error {
  override readonly name = 'RouterUnreachable';
}

/** What a call to the router at `address` failed with. */
export function routerError(error: unknown, address: string): Error {
  const converted = fromStatus(error);
  const cause = error instanceof ServingError ? error.cause : error;
  if (!isTransportFailure(cause)) return converted;
  return new RouterUnreachable(
    `UNAVAILABLE: no router answers at ${address} (${cause.details}): ` +
      'check --router, or start a cluster with `npm run -s longshadow -- up`; ' +
      'a router with TLS wants --tls-cert, --tls-key and --tls-ca (LONGSHADOW_TLS_CERT, _KEY, _CA)',
    { cause },
  );
}

/** Statuses of our services begin with a code; those of the transport do not. */
function isTransportFailure(error: unknown): error is ServiceError {
  return (
    error instanceof Error &&
    'details' in error &&
    typeof error.details === 'string' &&
    'code' in error &&
    error.code === status.UNAVAILABLE &&
    !/^[A-Z_0-9]+: /.test(error.details)
  );
}
