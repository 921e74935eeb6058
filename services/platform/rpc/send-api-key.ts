import { InterceptingCall, type Interceptor } from '@grpc/grpc-js';
import { ServingError } from '../../domain/serving-error.js';
import type { TlsFiles } from '../config/common-settings.js';
import { isLoopback, parseListenAddress } from './listen-address.js';

/**
 * Adds `authorization: Bearer KEY` to every call of a client.
 * @throws ServingError BAD_REQUEST where the key would travel in clear text through a network, or
 *   holds what no header may hold
 */
export function sendApiKey(key: string, address: string, tls: TlsFiles | null): Interceptor {
  if (!/^[\x21-\x7e]+$/.test(key)) {
    throw new ServingError('BAD_REQUEST', 'the API key holds spaces or unprintable characters');
  }
  if (tls === null && !staysOnThisHost(address)) {
    throw new ServingError(
      'BAD_REQUEST',
      `refusing to send an API key to ${address} without TLS: set LONGSHADOW_TLS_CERT, ` +
        'LONGSHADOW_TLS_KEY and LONGSHADOW_TLS_CA',
    );
  }
  return (options, nextCall) =>
    new InterceptingCall(nextCall(options), {
      start: (metadata, listener, next) => {
        metadata.set('authorization', `Bearer ${key}`);
        next(metadata, listener);
      },
    });
}

function staysOnThisHost(address: string): boolean {
  try {
    return isLoopback(parseListenAddress(address));
  } catch {
    return false;
  }
}
