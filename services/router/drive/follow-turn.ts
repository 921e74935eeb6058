import type { FleetMember } from '../../domain/fleet.js';
import { ServingError } from '../../domain/serving-error.js';
import type { SessionRecord } from '../../domain/session-record.js';
import type { DriveDeps } from './drive-deps.js';
import type { KeptState } from './kept-state.js';

/** How often the driver looks whether the decode of a turn still lives. */
const POLL_MS = 1_000;
/** Looks in a row that must find it gone. */
const SURE_POLLS = 2;
/** More of them after Redis was away, in which heartbeats come back. */
const HEARTBEAT_POLLS = 4;

export interface TurnToFollow {
  readonly record: () => SessionRecord;
  readonly decode: FleetMember;
  /** Events up to here belong to earlier turns. */
  readonly afterSequence: number;
  /** When the client asked: time to first token counts from here. */
  readonly askedUnixMs: number;
  readonly signal: AbortSignal;
}

export interface FinishedTurn {
  /** Null if the session is released now. */
  readonly keptUntilUnixMs: number | null;
  readonly kept: KeptState;
}

/**
 * Follows a session's events to the end of a turn.
 * @throws ServingError: the error event that ended the session (a cancel by another router among
 *   them), DECODE_LOST, or the signal's reason
 */
export async function followTurn(turn: TurnToFollow, deps: DriveDeps): Promise<FinishedTurn> {
  const stop = new AbortController();
  const onAbort = (): void => {
    stop.abort(turn.signal.reason);
  };
  turn.signal.addEventListener('abort', onAbort, { once: true });
  const watch = setInterval(watcher(turn, deps, stop), POLL_MS);
  try {
    return await untilFinished(turn, deps, stop.signal);
  } finally {
    clearInterval(watch);
    turn.signal.removeEventListener('abort', onAbort);
    stop.abort(); // ends the subscription
  }
}

async function untilFinished(
  turn: TurnToFollow,
  deps: DriveDeps,
  signal: AbortSignal,
): Promise<FinishedTurn> {
  const { sessionId, model } = turn.record();
  let lastTokenId: number | null = null;
  for await (const { sequence, event } of deps.store.events.follow(
    sessionId,
    turn.afterSequence,
    signal,
  )) {
    if (event.type === 'error') throw new ServingError(event.code, event.message, event.details);
    if (event.type === 'token') {
      if (lastTokenId === null) {
        deps.metrics.timeToFirstToken(model, (deps.nowUnixMs() - turn.askedUnixMs) / 1_000);
      }
      lastTokenId = event.tokenId;
    }
    if (event.type === 'finished') {
      const { promptTokens, cachedTokens, completionTokens } = event.report;
      const computed = promptTokens - cachedTokens;
      deps.metrics.tokens(model, { computed, cached: cachedTokens, generated: completionTokens });
      const tokens = promptTokens + completionTokens;
      return {
        keptUntilUnixMs: event.keptUntilUnixMs,
        kept: { lastSequence: sequence, tokens, lastTokenId },
      };
    }
  }
  signal.throwIfAborted();
  throw new ServingError('INTERNAL', 'the event stream of the session ended');
}

/** Aborts the turn with DECODE_LOST once its decode is gone. */
function watcher(turn: TurnToFollow, deps: DriveDeps, stop: AbortController): () => void {
  let absentPolls = 0;
  return () => {
    if (turn.record().state !== 'decoding') return;
    deps.fleet.isSameProcess(turn.decode).then(
      (alive) => {
        absentPolls = alive ? 0 : absentPolls + 1;
        if (absentPolls < SURE_POLLS) return;
        stop.abort(
          new ServingError(
            'DECODE_LOST',
            'the decode of this session is gone; send the request again',
            {
              retryAfterMs: 2_000,
            },
          ),
        );
      },
      () => {
        absentPolls = -HEARTBEAT_POLLS; // Redis is away: nothing is known
      },
    );
  };
}
