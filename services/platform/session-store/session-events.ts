import { setTimeout as delay } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import { ServingError } from '../../domain/serving-error.js';
import type { SequencedEvent } from '../../domain/session-event.js';
import type { EventAppend, SessionEvents } from '../../domain/session-store.js';
import { newAppendId } from './append-id.js';
import { sessionKeys } from './keys.js';
import { answered, runScript } from './redis-connection.js';
import { readEvent } from './schemas.js';
import { REMEMBERED_APPENDS } from './scripts/event-scripts.js';
import { ENDED_MS } from './scripts/script.js';
import type { WakeUps } from './wake-ups.js';

type Refusal = 'stale-epoch' | 'ended' | 'duplicate' | 'unknown';
type AppendResult = number | Refusal;

/** Events that one read of follow() fetches at most. */
const FOLLOW_BATCH = 512;
/** follow() looks after so long even if no wake-up came. */
const POLL_MS = 1_000;

/** Event streams on Redis. */
export function makeSessionEvents(redis: Redis, wakeUps: WakeUps): SessionEvents {
  const read: SessionEvents['read'] = async (sessionId, afterSequence, limit) => {
    const { events } = sessionKeys(sessionId);
    const begin = `${String(afterSequence + 1)}-0`;
    const entries = await answered(redis.xrange(events, begin, '+', 'COUNT', limit));
    return entries.map(([id, fields]) => toSequencedEvent(id, fields));
  };

  const lastSequence: SessionEvents['lastSequence'] = async (sessionId) => {
    const { record, stream } = sessionKeys(sessionId);
    const sequence = await runScript(redis, 'lastSequence', record, stream);
    return sequence === null ? null : Number(sequence);
  };

  const appendOne = async (append: EventAppend): Promise<AppendResult> =>
    toAppendResult(await runScript(redis, 'appendEvent', ...appendArgs(append)));

  return {
    append: async (sessionId, epoch, event, options) =>
      appendOne({ ...options, sessionId, epoch, event }),

    // Sent one after the other without waiting, on one connection: one round trip.
    appendAll: async (appends) => Promise.all(appends.map(appendOne)),

    read,

    follow: (sessionId, afterSequence, signal) =>
      follow({ read, lastSequence }, wakeUps, sessionId, afterSequence, signal),

    beginTurn: async (sessionId) => {
      const keys = sessionKeys(sessionId);
      const answer = await runScript(redis, 'beginTurn', keys.record, keys.stream);
      if (answer === 'open') return;
      if (answer === 'unknown') {
        throw new ServingError('SESSION_NOT_FOUND', `session ${sessionId} is unknown or expired`);
      }
      if (answer === 'busy') {
        throw new ServingError('SESSION_BUSY', `session ${sessionId} is still answering`);
      }
      throw new ServingError('SESSION_ENDED', `session ${sessionId} has ended`);
    },

    lastSequence,
  };
}

function appendArgs(append: EventAppend): (string | number)[] {
  const { sessionId, epoch, event, appendId, turn, attempt } = append;
  const keys = sessionKeys(sessionId);
  return [
    ...[keys.record, keys.stream, keys.events],
    ...[epoch, event.type, tokensBefore(append), JSON.stringify(event), keys.channel, ENDED_MS],
    ...[appendId ?? newAppendId(), turn ?? '', attempt ?? '', REMEMBERED_APPENDS],
  ];
}

/** How many tokens of the turn precede the event; '' where that is not said. */
function tokensBefore({ event, attempt }: EventAppend): number | '' {
  if (event.type === 'token') return event.index;
  return event.type === 'finished' && attempt !== undefined ? event.report.completionTokens : '';
}

function toAppendResult(reply: unknown): AppendResult {
  switch (reply) {
    case 'stale-epoch':
    case 'ended':
    case 'duplicate':
    case 'unknown':
      return reply;
    default:
      if (typeof reply === 'number') return reply;
      throw new Error(`appendEvent answered ${String(reply)}`);
  }
}

function toSequencedEvent(id: string, fields: readonly string[]): SequencedEvent {
  const json = fields[fields.indexOf('e') + 1] ?? '';
  return { sequence: Number.parseInt(id, 10), event: readEvent(json) };
}

type EventReader = Pick<SessionEvents, 'read' | 'lastSequence'>;

/**
 * Yields events as they come. Wake-ups that arrive during a read cost one more read, however many
 * they are. While Redis is away it waits and looks again; a damaged event ends it with DATA_LOSS, a
 * stream that is gone or has gone back with SESSION_LOST.
 */
async function* follow(
  reader: EventReader,
  wakeUps: WakeUps,
  sessionId: string,
  afterSequence: number,
  signal: AbortSignal,
): AsyncGenerator<SequencedEvent, void, undefined> {
  const bell = wakeUps.listen(sessionKeys(sessionId).channel);
  let last = afterSequence;
  try {
    while (!signal.aborted) {
      const rung = bell.next();
      const batch = await readOrNull(reader, sessionId, last);
      for (const event of batch ?? []) {
        if (isAborted(signal)) return;
        last = event.sequence;
        yield event;
      }
      if (batch === null || batch.length < FOLLOW_BATCH) await firstOf(rung, POLL_MS, signal);
    }
  } finally {
    bell.close();
  }
}

/**
 * Null while Redis is away. Whoever finds no news asks whether there can be any.
 *
 * @throws ServingError SESSION_LOST when Redis has no such session, or fewer events than were read:
 *   it came back without its last writes, and other events would take their numbers
 */
async function readOrNull(
  { read, lastSequence }: EventReader,
  sessionId: string,
  afterSequence: number,
): Promise<SequencedEvent[] | null> {
  try {
    const batch = await read(sessionId, afterSequence, FOLLOW_BATCH);
    if (batch.length > 0) return batch;
    const last = await lastSequence(sessionId);
    if (last !== null && last >= afterSequence) return batch;
  } catch (error) {
    if (error instanceof ServingError && error.code === 'REDIS_UNAVAILABLE') return null;
    throw error;
  }
  throw new ServingError('SESSION_LOST', `Redis has lost session ${sessionId}: send it again`);
}

/** A call, so that the compiler does not take an earlier answer for a lasting one. */
function isAborted(signal: AbortSignal): boolean {
  return signal.aborted;
}

/** Waits for the bell, the time limit or the abort, whichever is first. */
async function firstOf(rung: Promise<void>, timeoutMs: number, signal: AbortSignal): Promise<void> {
  const stop = new AbortController();
  const onAbort = (): void => {
    stop.abort();
  };
  signal.addEventListener('abort', onAbort, { once: true });
  if (signal.aborted) stop.abort();
  try {
    const late = delay(timeoutMs, undefined, { signal: stop.signal }).catch(() => undefined);
    await Promise.race([rung, late]);
  } finally {
    stop.abort();
    signal.removeEventListener('abort', onAbort);
  }
}
