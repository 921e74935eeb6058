import type { ServerUnaryCall } from '@grpc/grpc-js';
import { ServingError } from '../../domain/serving-error.js';
import { formatTraceparent, parseTraceparent } from '../tracing.js';

/** Why a call ended early. */
export type CancelReason = 'client' | 'deadline';

/** What a handler may know about its call. */
export interface CallContext {
  /**
   * Aborts when the client is gone or the deadline has passed, and never after the handler's end.
   * Its reason is the ServingError (CANCELLED or DEADLINE_EXCEEDED) that throwIfAborted() throws.
   */
  readonly signal: AbortSignal;
  /** Null while the call goes on. */
  cancelReason(): CancelReason | null;
  /** The call's deadline as the client set it; null: none. */
  readonly deadlineUnixMs: number | null;
  /** A valid W3C traceparent from the call's metadata, or null. */
  readonly traceparent: string | null;
  /** host:port of the client, or 'unknown' (unix sockets). */
  readonly peer: string;
  /** `/longshadow.worker.v1.WorkerService/GetStatus`. */
  readonly method: string;
  /** Whose API key came with the call; null where callers are not asked who they are. */
  readonly tenant: string | null;
}

/** The part of a grpc-js server call, of whatever kind, that a context needs. */
export interface AnyServerCall extends Pick<
  ServerUnaryCall<unknown, unknown>,
  'cancelled' | 'metadata' | 'getPeer' | 'getDeadline' | 'getPath'
> {
  on(event: 'cancelled', listener: () => void): unknown;
}

/**
 * The client's clock of the deadline runs ahead of ours by the way of its request, and at its end
 * it cancels: a cancellation so close to the deadline is the deadline.
 */
const DEADLINE_SLACK_MS = 100;

/** Longest delay that setTimeout takes. */
const MAX_TIMER_MS = 2 ** 31 - 1;

/**
 * Follows a call's end. grpc-js emits 'cancelled' after every call, so the adapter says with
 * close() that the handler has settled; later events are not news.
 */
export function openCallContext(call: AnyServerCall): {
  readonly context: CallContext;
  readonly close: () => void;
} {
  const aborter = new AbortController();
  let reason: CancelReason | null = null;
  let timer: NodeJS.Timeout | null = null;
  let open = true;
  const deadlineUnixMs = deadlineOf(call);

  const cancel = (why: CancelReason): void => {
    if (!open || reason !== null) return;
    reason = why;
    aborter.abort(errorOf(why));
  };
  // Our own timer: grpc-js announces a passed deadline only once the client has read all that was
  // sent, which a client that stands still never does.
  const armDeadline = (unixMs: number): void => {
    const left = unixMs - Date.now();
    if (left <= 0) cancel('deadline');
    else
      timer = setTimeout(
        () => {
          armDeadline(unixMs);
        },
        Math.min(left, MAX_TIMER_MS),
      ).unref();
  };
  call.on('cancelled', () => {
    cancel(isDue(deadlineUnixMs) ? 'deadline' : 'client');
  });
  if (call.cancelled) cancel('client');
  else if (deadlineUnixMs !== null) armDeadline(deadlineUnixMs);

  return {
    context: {
      signal: aborter.signal,
      cancelReason: () => reason,
      deadlineUnixMs,
      traceparent: traceparentOf(call),
      peer: call.getPeer(),
      method: call.getPath(),
      tenant: null,
    },
    close: () => {
      open = false;
      if (timer !== null) clearTimeout(timer);
    },
  };
}

function errorOf(reason: CancelReason): ServingError {
  return reason === 'client'
    ? new ServingError('CANCELLED', 'the client cancelled the call or is gone')
    : new ServingError('DEADLINE_EXCEEDED', "the call's deadline has passed");
}

/** Whether a cancellation now stands for a deadline's end. */
function isDue(deadlineUnixMs: number | null): boolean {
  return deadlineUnixMs !== null && Date.now() >= deadlineUnixMs - DEADLINE_SLACK_MS;
}

function traceparentOf(call: AnyServerCall): string | null {
  const [header] = call.metadata.get('traceparent');
  const trace = parseTraceparent(header?.toString());
  return trace === null ? null : formatTraceparent(trace);
}

function deadlineOf(call: AnyServerCall): number | null {
  const deadline = call.getDeadline();
  const unixMs = deadline instanceof Date ? deadline.getTime() : deadline;
  return Number.isFinite(unixMs) ? unixMs : null;
}
