import type { handleUnaryCall } from '@grpc/grpc-js';
import { observeCall, type AdapterOptions } from './adapter-options.js';
import { identified } from './authenticate.js';
import { openCallContext, type CallContext } from './call-context.js';

export type Unary<Request, Response> = (
  request: Request,
  context: CallContext,
) => Promise<Response>;

/**
 * Adapts an async function to grpc-js: cancellation goes in, status codes come out. After a
 * cancellation the reply is dropped (the client is gone), but the handler is still observed.
 */
export function unary<Request, Response>(
  handle: Unary<Request, Response>,
  options: AdapterOptions,
): handleUnaryCall<Request, Response> {
  return (call, callback) => {
    const { context, close } = openCallContext(call);
    const observed = observeCall(options, context);
    // async, so that a synchronous throw also becomes a rejection
    const respond = async (): Promise<Response> =>
      handle(call.request, identified(context, call.metadata, options.authenticate));
    respond()
      .finally(close)
      .then(
        (response) => {
          observed.succeeded();
          callback(null, response);
        },
        (error: unknown) => {
          callback(observed.failed(error));
        },
      )
      .catch((error: unknown) => {
        options.log.error({ err: error, method: context.method }, 'reply could not be sent');
      });
  };
}
