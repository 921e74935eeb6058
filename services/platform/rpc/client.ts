import {
  Metadata,
  makeClientConstructor,
  type CallOptions,
  type ClientUnaryCall,
  type requestCallback,
} from '@grpc/grpc-js';
import { ServingError, type ErrorCode } from '../../domain/serving-error.js';
import type { TlsFiles } from '../config/common-settings.js';
import { clientOptions, DEFAULT_MESSAGE_LIMITS, type MessageLimits } from './channel-options.js';
import { sendApiKey } from './send-api-key.js';
import { loadService, type ServiceName, type ServiceTypes } from './load-service.js';
import { fromStatus } from './status.js';
import { clientCredentials } from './tls.js';

/**
 * A client of one of our services; it connects at its first call and reconnects by itself.
 * Close it with `client.close()`.
 *
 * @param apiKey sent with every call
 * @throws ServingError BAD_REQUEST: TLS files that do not work, or a key that must not be sent
 */
export function makeClient<N extends ServiceName>(
  name: N,
  address: string,
  tls: TlsFiles | null,
  limits: MessageLimits = DEFAULT_MESSAGE_LIMITS,
  apiKey: string | null = null,
): ServiceTypes[N]['client'] {
  const interceptors = apiKey === null ? [] : [sendApiKey(apiKey, address, tls)];
  const { service, fullName } = loadService(name);
  const Client = makeClientConstructor(service, fullName);
  const options = { ...clientOptions(limits), interceptors };
  const client = new Client(address, clientCredentials(tls), options);
  // grpc-js makes the methods that the generated interface lists.
  return client as unknown as ServiceTypes[N]['client'];
}

/** Names of a client's unary methods (`GetStatus` and `getStatus` alike). */
export type UnaryMethod<C> = {
  [K in keyof C]: C[K] extends (
    argument: infer _Request,
    callback: requestCallback<infer _Response>,
  ) => ClientUnaryCall
    ? K
    : never;
}[keyof C];

export type RequestOf<C, M extends keyof C> = C[M] extends (
  argument: infer Request,
  callback: requestCallback<infer _Response>,
) => ClientUnaryCall
  ? Request
  : never;

export type ResponseOf<C, M extends keyof C> = C[M] extends (
  argument: infer _Request,
  callback: requestCallback<infer Response>,
) => ClientUnaryCall
  ? Response
  : never;

export interface UnaryCallOptions {
  /** Cancels the call; the promise rejects with the signal's reason if that is a ServingError. */
  readonly signal?: AbortSignal | undefined;
  /** The call's deadline, from now. */
  readonly timeoutMs: number;
  readonly traceparent?: string | null | undefined;
  /** What an unreachable peer means: WORKER_LOST unless given. */
  readonly unavailable?: ErrorCode | undefined;
}

/**
 * Calls a unary method.
 * @throws ServingError with the peer's code and details
 */
export async function unaryCall<C extends object, M extends UnaryMethod<C>>(
  client: C,
  method: M,
  request: RequestOf<C, M>,
  options: UnaryCallOptions,
): Promise<ResponseOf<C, M>> {
  const { signal, timeoutMs, traceparent, unavailable } = options;
  const metadata = new Metadata();
  if (traceparent !== undefined && traceparent !== null) metadata.set('traceparent', traceparent);
  // One of the overloads that UnaryMethod has matched.
  const call = client[method] as (
    argument: RequestOf<C, M>,
    metadata: Metadata,
    options: CallOptions,
    callback: requestCallback<ResponseOf<C, M>>,
  ) => ClientUnaryCall;
  return new Promise((resolve, reject) => {
    if (signal?.aborted === true) {
      reject(cancelled(signal));
      return;
    }
    const onAbort = (): void => {
      running.cancel();
    };
    const deadline = Date.now() + timeoutMs;
    const running = call.call(client, request, metadata, { deadline }, (error, response) => {
      signal?.removeEventListener('abort', onAbort);
      if (error !== null) {
        reject(signal?.aborted === true ? cancelled(signal) : fromStatus(error, unavailable));
      } else if (response === undefined) {
        reject(new ServingError('INTERNAL', `${String(method)} answered nothing`));
      } else {
        resolve(response);
      }
    });
    signal?.addEventListener('abort', onAbort, { once: true });
  });
}

function cancelled(signal: AbortSignal): ServingError {
  return signal.reason instanceof ServingError
    ? signal.reason
    : new ServingError('CANCELLED', 'the call was cancelled', {}, { cause: signal.reason });
}
