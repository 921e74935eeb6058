import { ServingError } from '../../domain/serving-error.js';
import type { ErrorEvent, SequencedEvent } from '../../domain/session-event.js';
import { unlessAborted } from '../drive/redis-gap.js';
import type { RouterDeps } from './router-deps.js';

export interface RelayedEvents {
  readonly sessionId: string;
  readonly afterSequence: number;
  /** Of the client's call. */
  readonly client: AbortSignal;
  /** Aborts, with its error, if the session ends and its events cannot say so. */
  readonly untold: AbortSignal;
  /** Whether nothing is to come after this event. */
  readonly isLast: (event: SequencedEvent) => Promise<boolean>;
  /** Called if the relay ends before the last event, and no other client of this router is left. */
  readonly onClientGone: (reason: ServingError) => void;
}

/**
 * A session's events as they come, until the last one, however many routers it is driven by on the
 * way. From the call on, and not only once it is read, drivers hear of the client and of its end.
 *
 * @throws ServingError what `client` or `untold` aborts with, or SHUTTING_DOWN
 */
export function relayEvents(
  events: RelayedEvents,
  deps: Pick<RouterDeps, 'store' | 'relays'>,
): AsyncIterable<SequencedEvent> {
  const { client, untold } = events;
  const relay = deps.relays.open(events.sessionId);
  let isOpen = true;
  const close = (): boolean => {
    if (!isOpen) return false;
    isOpen = false;
    client.removeEventListener('abort', gone);
    return relay.close();
  };
  const gone = (): void => {
    if (close()) events.onClientGone(reasonOf(client));
  };
  client.addEventListener('abort', gone, { once: true });
  if (client.aborted) gone();
  const toldByUs = AbortSignal.any([untold, deps.relays.stopped]);
  const over = AbortSignal.any([client, toldByUs]);

  const follow = async function* (): AsyncGenerator<SequencedEvent, void, undefined> {
    const { sessionId, afterSequence } = events;
    const followed = deps.store.events.follow(sessionId, afterSequence, over);
    const iterator = followed[Symbol.asyncIterator]();
    try {
      for (;;) {
        // An event that Redis is asked for does not hold up the end.
        const next = await unlessAborted(over, async () => iterator.next());
        if (next.done === true) break;
        const isLast = await unlessAborted(over, async () => events.isLast(next.value));
        if (isLast) close();
        yield next.value;
        if (isLast) return;
      }
      over.throwIfAborted();
    } finally {
      if (toldByUs.aborted) close();
      else gone();
      iterator.return?.().catch(() => undefined);
    }
  };
  return follow();
}

/** The error that an event tells a client of. */
export function errorOf({ code, message, details }: ErrorEvent): ServingError {
  return new ServingError(code, message, details);
}

function reasonOf(client: AbortSignal): ServingError {
  const reason: unknown = client.reason;
  return reason instanceof ServingError
    ? reason
    : new ServingError('CANCELLED', 'the client is gone');
}
