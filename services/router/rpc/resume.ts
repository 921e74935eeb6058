import type { ResumeRequest__Output } from '../../../proto/gen/longshadow/router/v1/ResumeRequest.js';
import type { ResumeResponse } from '../../../proto/gen/longshadow/router/v1/ResumeResponse.js';
import { ServingError } from '../../domain/serving-error.js';
import type { SequencedEvent } from '../../domain/session-event.js';
import { ENDED_STATES } from '../../domain/session-record.js';
import type { SessionStore } from '../../domain/session-store.js';
import type { ServerStream } from '../../platform/rpc/server-stream.js';
import { requireOwnSession } from '../auth/session-owner.js';
import { retryWhileRedisIsAway } from '../drive/redis-gap.js';
import { errorOf, relayEvents } from './relay-events.js';
import type { RouterDeps } from './router-deps.js';
import { toWireEvent } from './to-wire.js';

/** How often a session that says nothing is looked at. */
const LOOK_MS = 2_000;

/**
 * Router.Resume: the session's events after those that the client has, until its last turn ends,
 * whichever router drives it. An error event is followed by its gRPC status.
 */
export function makeResume(deps: RouterDeps): ServerStream<ResumeRequest__Output, ResumeResponse> {
  return async function* resume({ sessionId, afterSequence: after }, context) {
    await requireOwnSession(sessionId, context.tenant, deps.store.records);
    const afterSequence = await checkPlace(sessionId, after, deps.store);
    const isLast = async (event: SequencedEvent): Promise<boolean> =>
      endsLastTurn(sessionId, event, deps.store, context.signal);
    const last = await eventAt(sessionId, afterSequence, deps.store);
    if (last?.event.type === 'error') throw errorOf(last.event);
    if (last === null ? await isIdle(sessionId, deps.store) : await isLast(last)) return;

    const silence = watchForSilentEnd(sessionId, afterSequence, deps);
    const onClientGone = (reason: ServingError): void => {
      deps.driver.clientGone(sessionId, reason).catch((error: unknown) => {
        deps.log.warn({ err: error, sessionId }, 'the driver could not be told of a lost client');
      });
    };
    const { signal: client } = context;
    const { ended: untold } = silence;
    try {
      for await (const sequenced of relayEvents(
        { sessionId, afterSequence, client, untold, isLast, onClientGone },
        deps,
      )) {
        silence.relayed(sequenced.sequence);
        yield toWireEvent(sessionId, sequenced);
        if (sequenced.event.type === 'error') throw errorOf(sequenced.event);
      }
    } finally {
      silence.stop();
    }
  };
}

/** @returns after_sequence as a number */
async function checkPlace(sessionId: string, after: string, store: SessionStore): Promise<number> {
  const [record, lastSequence] = await Promise.all([
    store.records.load(sessionId),
    store.events.lastSequence(sessionId),
  ]);
  if (record === null) {
    throw new ServingError(
      'SESSION_NOT_FOUND',
      `session ${sessionId} is unknown or ended more than 10 minutes ago`,
    );
  }
  if (lastSequence === null) {
    throw new ServingError('SESSION_LOST', 'the events of the session are lost; send it again');
  }
  // A decimal of 64 bits: what does not fit a number is past any sequence.
  const afterSequence = Number(after);
  if (afterSequence <= lastSequence) return afterSequence;
  const description = `must be at most ${String(lastSequence)}, the last that was sent`;
  throw new ServingError('BAD_REQUEST', `after_sequence ${description}`, {
    fieldViolations: [{ field: 'after_sequence', description }],
  });
}

/** A fork that has had no turn yet has no events, and none will come of themselves. */
async function isIdle(sessionId: string, { records, events }: SessionStore): Promise<boolean> {
  const [record, last] = await Promise.all([
    records.load(sessionId),
    events.lastSequence(sessionId),
  ]);
  return record?.state === 'kept' && last === 0;
}

async function eventAt(
  sessionId: string,
  sequence: number,
  store: SessionStore,
): Promise<SequencedEvent | null> {
  if (sequence === 0) return null;
  const [event] = await store.events.read(sessionId, sequence - 1, 1);
  return event ?? null;
}

/** A `finished` event ends the last turn unless the record knows of a turn that came after it. */
async function endsLastTurn(
  sessionId: string,
  { sequence, event }: SequencedEvent,
  store: SessionStore,
  signal: AbortSignal,
): Promise<boolean> {
  if (event.type === 'error') return true;
  if (event.type !== 'finished') return false;
  const record = await retryWhileRedisIsAway(signal, async () => store.records.load(sessionId));
  return record === null || record.turn.afterSequence < sequence;
}

/**
 * Looks after a session that says nothing: one that has ended where its events could not say so
 * would let its client wait for ever.
 */
function watchForSilentEnd(
  sessionId: string,
  afterSequence: number,
  { store, log }: Pick<RouterDeps, 'store' | 'log'>,
): { readonly ended: AbortSignal; relayed(sequence: number): void; stop(): void } {
  const ended = new AbortController();
  let last = afterSequence;
  let lastLook = -1;
  const look = async (): Promise<void> => {
    if (last !== lastLook) {
      lastLook = last;
      return;
    }
    const [record, lastSequence] = await Promise.all([
      store.records.load(sessionId),
      store.events.lastSequence(sessionId),
    ]);
    const hasEnded = record === null || ENDED_STATES.has(record.state);
    if (!hasEnded || (lastSequence ?? 0) > last) return;
    ended.abort(
      new ServingError('SESSION_ENDED', 'the session has ended; its events do not say how'),
    );
  };
  const timer = setInterval(() => {
    look().catch((error: unknown) => {
      log.debug({ err: error, sessionId }, 'the session could not be looked at');
    });
  }, LOOK_MS).unref();
  return {
    ended: ended.signal,
    relayed: (sequence) => {
      last = sequence;
    },
    stop: () => {
      clearInterval(timer);
    },
  };
}
