import { setTimeout } from 'node:timers/promises';
import type { handleBidiStreamingCall, ServerDuplexStream } from '@grpc/grpc-js';
import { ServingError } from '../../domain/serving-error.js';
import type { AdapterOptions } from './adapter-options.js';
import type { CallContext } from './call-context.js';
import { runStream } from './write-responses.js';

export type BidiStream<Request, Response> = (
  requests: AsyncIterable<Request>,
  context: CallContext,
) => AsyncIterable<Response>;

/**
 * How long a half-close waits for a reset before it counts. A Node client that cancels half-closes
 * its stream first and resets it in the next frame, which arrives about 1 ms later here.
 */
const HALF_CLOSE_SETTLE_MS = 10;

/**
 * Adapts an async generator to a bidirectional method. `requests` ends when the client half-closes
 * and only then; when the client goes or the deadline passes it rejects (CANCELLED or
 * DEADLINE_EXCEEDED), so that a broken upload is never taken for a complete one. Requests that are
 * not read are not received: the client is slowed down.
 */
export function bidiStream<Request, Response>(
  handle: BidiStream<Request, Response>,
  options: AdapterOptions,
): handleBidiStreamingCall<Request, Response> {
  return (call) => {
    runStream(call, (context) => handle(requestsOf(call, context.signal), context), options);
  };
}

async function* requestsOf<Request, Response>(
  call: ServerDuplexStream<Request, Response>,
  signal: AbortSignal,
): AsyncGenerator<Request, void, undefined> {
  try {
    // A handler that stops reading must not close the half that it answers on.
    const messages: AsyncIterable<Request> = call.iterator({ destroyOnReturn: false });
    for await (const message of messages) yield message;
  } catch (error) {
    signal.throwIfAborted();
    throw new ServingError('CANCELLED', 'the request stream broke off', {}, { cause: error });
  }
  // An abort while waiting rejects too; its reason is thrown below.
  await setTimeout(HALF_CLOSE_SETTLE_MS, undefined, { signal }).catch(() => undefined);
  signal.throwIfAborted();
}
