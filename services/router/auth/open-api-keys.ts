import { ServingError } from '../../domain/serving-error.js';
import type { Log } from '../../platform/log.js';
import { isLoopback, parseListenAddress } from '../../platform/rpc/listen-address.js';
import { ApiKeys } from './api-keys.js';

/**
 * The API keys that the settings name; null where none are wanted, which only loopback allows: who
 * can connect from elsewhere must say who they are.
 *
 * @throws ServingError BAD_REQUEST: another address without a file of keys, or a file that is wrong
 */
export async function openApiKeys(
  settings: { readonly listenAddress: string; readonly apiKeysFile: string | null },
  log: Log,
): Promise<ApiKeys | null> {
  const { listenAddress, apiKeysFile } = settings;
  if (apiKeysFile !== null) return ApiKeys.open(apiKeysFile, log);
  if (isLoopback(parseListenAddress(listenAddress))) return null;
  throw new ServingError(
    'BAD_REQUEST',
    `refusing to listen on ${listenAddress} without API keys: set ROUTER_API_KEYS_FILE ` +
      '(longshadow keys add), or listen on 127.0.0.1',
  );
}
