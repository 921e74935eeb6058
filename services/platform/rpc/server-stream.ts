import type { handleServerStreamingCall } from '@grpc/grpc-js';
import type { AdapterOptions } from './adapter-options.js';
import type { CallContext } from './call-context.js';
import { runStream } from './write-responses.js';

export type ServerStream<Request, Response> = (
  request: Request,
  context: CallContext,
) => AsyncIterable<Response>;

/** Adapts an async generator to a server-streaming method; writes await back-pressure. */
export function serverStream<Request, Response>(
  handle: ServerStream<Request, Response>,
  options: AdapterOptions,
): handleServerStreamingCall<Request, Response> {
  return (call) => {
    runStream(call, (context) => handle(call.request, context), options);
  };
}
