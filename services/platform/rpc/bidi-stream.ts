import { setTimeout } from 'node:timers/promises';
import type { Readable } from 'node:stream';
import type { handleBidiStreamingCall, ServerDuplexStream } from '@grpc/grpc-js';
import { ServingError } from '../../domain/serving-error.js';
import type { AdapterOptions } from './adapter-options.js';
import type { CallContext } from './call-context.js';
import { runStream } from './write-responses.js';

/** What a reader waits for; a call that closes without an end has been cancelled or answered. */
const EVENTS = ['readable', 'end', 'close', 'error'] as const;

export type BidiStream<Request, Response> = (
  requests: AsyncIterable<Request>,
  context: CallContext,
) => AsyncIterable<Response>;

/**
 * How long a half-close waits for a reset before it counts. A Node client that cancels half-closes
 * its stream first and resets it in the next frame, which arrives about 1 ms later here. This is a
 * timer and no proof: a reset that takes longer (a slow network, a busy event loop) slips through,
 * and the cancelled upload is taken for a complete one. Its session then begins to answer, and is
 * cancelled like any other when the reset arrives.
 */
const HALF_CLOSE_SETTLE_MS = 10;

/**
 * Adapts an async generator to a bidirectional method. `requests` ends when the client half-closes
 * and only then; when the client goes or the deadline passes it rejects (CANCELLED or
 * DEADLINE_EXCEEDED), so that a broken upload is not taken for a complete one: but for a reset that
 * comes more than HALF_CLOSE_SETTLE_MS after its half-close. Requests that are not read are not
 * received: the client is slowed down.
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
  const arrivals = watchArrivals(call, signal);
  try {
    for (;;) {
      signal.throwIfAborted();
      const message = call.read() as Request | null;
      if (message !== null) yield message;
      else if (call.readableEnded) break;
      else if (call.destroyed || arrivals.failed()) throw brokenOff();
      else await arrivals.next();
    }
  } finally {
    arrivals.stop();
  }
  // An abort while waiting rejects too; its reason is thrown below.
  await setTimeout(HALF_CLOSE_SETTLE_MS, undefined, { signal }).catch(() => undefined);
  signal.throwIfAborted();
}

function brokenOff(): ServingError {
  return new ServingError('CANCELLED', 'the request stream broke off');
}

/**
 * Wakes a reader when it should look at the call again. Not the call's own iterator: that destroys
 * the call when a handler ends it with a status, and the status is then never sent.
 */
function watchArrivals(
  call: Readable,
  signal: AbortSignal,
): { next(): Promise<void>; failed(): boolean; stop(): void } {
  let failed = false;
  let rung = false;
  let wake: (() => void) | null = null;
  const ring = (): void => {
    rung = true;
    wake?.();
  };
  const fail = (): void => {
    failed = true;
  };
  call.on('error', fail);
  for (const event of EVENTS) call.on(event, ring);
  signal.addEventListener('abort', ring, { once: true });
  return {
    next: async () => {
      if (!rung) await new Promise<void>((resolve) => (wake = resolve));
      rung = false;
      wake = null;
    },
    failed: () => failed,
    stop: () => {
      call.off('error', fail);
      for (const event of EVENTS) call.off(event, ring);
      signal.removeEventListener('abort', ring);
    },
  };
}
