import { setTimeout as delay } from 'node:timers/promises';
import { ServingError, type ErrorCode } from '../../domain/serving-error.js';
import type { AnswerEvent } from './answer-events.js';
import { RouterUnreachable } from './router-error.js';

/** The part of a router's client that following a session takes. */
export interface ResumingRouter {
  readonly address: string;
  resume(sessionId: string, afterSequence: number, signal: AbortSignal): AsyncIterable<AnswerEvent>;
}

/** The last event that a client has. */
export interface Place {
  readonly sessionId: string;
  readonly sequence: number;
}

export interface LastingOptions {
  readonly signal: AbortSignal;
  /** Called when a router is lost in the middle; `next` may be the same one. */
  readonly onLost: (lost: string, next: string) => void;
  /** How long to go on asking without an event. Default: half a minute. */
  readonly patienceMs?: number;
}

/** A lease lives 5 s, and a router that is started again takes some seconds. */
const PATIENCE_MS = 30_000;
const PAUSE_MS = 500;

/** With these a router leaves a session that runs on. */
const LEAVING: ReadonlySet<ErrorCode> = new Set(['SHUTTING_DOWN', 'REDIS_UNAVAILABLE']);

/**
 * An answer that survives the router that gives it: once the session is accepted, its router may
 * die, and the next of the list goes on after the last event that came. Every event comes once.
 *
 * @param first events of a call to the first router
 * @param place what the client has of the session before; null: nothing yet
 */
export async function* lastingAnswer(
  first: AsyncIterable<AnswerEvent>,
  place: Place | null,
  routers: readonly [ResumingRouter, ...ResumingRouter[]],
  { signal, onLost, patienceMs = PATIENCE_MS }: LastingOptions,
): AsyncGenerator<AnswerEvent> {
  let last = place;
  let hasFailed = false;
  let [router] = routers;
  let events = first;
  let heardMs = performance.now();
  for (let triesInVain = 0; ; triesInVain += 1) {
    try {
      for await (const event of events) {
        if (last !== null && event.sequence <= last.sequence) continue;
        [last, triesInVain] = [event, 0];
        hasFailed = event.type === 'error';
        yield event;
        // The caller's own time with an event is not time without one.
        heardMs = performance.now();
      }
      return;
    } catch (error) {
      const isPatient = performance.now() - heardMs < patienceMs;
      if (last === null || hasFailed || signal.aborted || !isPatient || !hasLeft(error))
        throw error;
    }
    const lost = router;
    router = routers[(routers.indexOf(router) + 1) % routers.length] ?? lost;
    if (triesInVain === 0) onLost(lost.address, router.address);
    // Every router was asked since the last event: let one come back.
    if (triesInVain >= routers.length - 1) await delay(PAUSE_MS, undefined, { signal });
    events = router.resume(last.sessionId, last.sequence, signal);
  }
}

function hasLeft(error: unknown): boolean {
  if (error instanceof ServingError) return LEAVING.has(error.code);
  return error instanceof RouterUnreachable;
}
