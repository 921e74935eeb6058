import { status, type ServerDuplexStream, type ServerWritableStream } from '@grpc/grpc-js';
import { ServingError } from '../../domain/serving-error.js';
import { observeCall, type AdapterOptions } from './adapter-options.js';
import { identified } from './authenticate.js';
import { openCallContext, type CallContext } from './call-context.js';
import type { WireStatus } from './status.js';

type ResponseCall<Request, Response> =
  ServerWritableStream<Request, Response> | ServerDuplexStream<Request, Response>;

/**
 * Runs a streaming handler: writes what it yields, no faster than the client reads, and ends the
 * call with its status. When the client goes, the generator is told by `context.signal` and by
 * return(); nothing here waits for it any longer.
 */
export function runStream<Request, Response>(
  call: ResponseCall<Request, Response>,
  handle: (context: CallContext) => AsyncIterable<Response>,
  options: AdapterOptions,
): void {
  const { context, close } = openCallContext(call);
  const observed = observeCall(options, context);
  const answer = (): AsyncIterable<Response> =>
    handle(identified(context, call.metadata, options.authenticate));
  writeResponses(call, answer, context)
    .finally(close)
    .then(
      () => {
        observed.succeeded();
        call.end();
      },
      (error: unknown) => {
        const wire = observed.failed(error);
        if (!call.cancelled) endWithStatus(call, wire);
      },
    )
    .catch((error: unknown) => {
      options.log.error({ err: error, method: context.method }, 'stream could not be ended');
    });
}

async function writeResponses<Request, Response>(
  call: ResponseCall<Request, Response>,
  answer: () => AsyncIterable<Response>,
  { signal }: CallContext,
): Promise<void> {
  const responses = answer()[Symbol.asyncIterator]();
  let finished = false;
  try {
    for (;;) {
      const next = await orAborted(responses.next(), signal);
      if (next.done === true) break;
      if (!call.write(next.value)) await orAborted(drained(call), signal);
    }
    finished = true;
  } finally {
    // Not awaited: return() queues behind a next() that may never settle.
    if (!finished) responses.return?.().catch(() => undefined);
  }
}

/** Settles as `promise` does, or rejects with the signal's reason as soon as it aborts. */
async function orAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  promise.catch(() => undefined); // if the abort wins, nobody else hears of a later rejection
  return new Promise<T>((resolve, reject) => {
    const onAbort = (): void => {
      reject(
        signal.reason instanceof Error
          ? signal.reason
          : new ServingError('CANCELLED', 'the call was cancelled'),
      );
    };
    if (signal.aborted) {
      onAbort();
      return;
    }
    signal.addEventListener('abort', onAbort, { once: true });
    promise.then(resolve, reject).finally(() => {
      signal.removeEventListener('abort', onAbort);
    });
  });
}

/** A listener that outlives an abort costs nothing: the call goes with it. */
async function drained<Request, Response>(call: ResponseCall<Request, Response>): Promise<void> {
  return new Promise((resolve) => {
    call.once('drain', resolve);
  });
}

/** grpc-js takes the status of a stream from its 'error' event and ends the call after it. */
function endWithStatus<Request, Response>(
  call: ResponseCall<Request, Response>,
  wire: WireStatus,
): void {
  const error = Object.assign(new Error(`${status[wire.code]}: ${wire.details}`), wire);
  call.emit('error', error);
}
