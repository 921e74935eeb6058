import type { FleetMember } from '../../domain/fleet.js';
import { type ErrorCode, ServingError } from '../../domain/serving-error.js';
import type { DrivenSession } from './driven-session.js';
import { processOf } from './fleet-view.js';
import { startDecode } from './start-decode.js';
import type { FinishedTurn, TurnFollower } from './turn-follower.js';

/** How often the driver looks whether the decode of a turn still lives. */
const POLL_MS = 1_000;
/** Looks in a row that must find it gone. */
const SURE_POLLS = 2;
/** More of them after Redis was away, in which heartbeats come back. */
const HEARTBEAT_POLLS = 4;

interface Loss {
  readonly code: ErrorCode;
  readonly message: string;
  /** The decode said so itself, in the events. */
  readonly told: boolean;
}

/**
 * Has a decode answer a turn, and another one go on where it is lost, until the turn has ended.
 * @throws ServingError WORKER_LOST or DATA_LOSS when the session needs a new plan; what ended it
 */
export async function decodeTurn(
  session: DrivenSession,
  follower: TurnFollower,
): Promise<FinishedTurn> {
  const lost = new Set<string>();
  let failedBefore = false;
  for (;;) {
    const decode = await startDecode(session, follower, lost);
    const outcome = await untilEndOrLoss(session, follower, decode);
    if ('lastSequence' in outcome) return outcome;
    if (outcome.code === 'DATA_LOSS') throw new ServingError('DATA_LOSS', outcome.message);
    // A fault of the engine that comes again is one of this prompt.
    if (outcome.code === 'INTERNAL' && failedBefore) throw internal(outcome.message);
    failedBefore = outcome.code === 'INTERNAL';
    if (!outcome.told) await session.tellInterrupted(outcome.code, outcome.message);
    session.deps.metrics.decodeReplaced(outcome.code);
    lost.add(processOf(decode));
  }
}

async function untilEndOrLoss(
  session: DrivenSession,
  follower: TurnFollower,
  decode: FleetMember,
): Promise<FinishedTurn | Loss> {
  const stop = new AbortController();
  try {
    return await Promise.race([
      follower.finished,
      follower.interrupted().then(({ code, message }) => ({ code, message, told: true })),
      gone(session, decode, stop.signal),
    ]);
  } finally {
    stop.abort();
  }
}

/** Settles once the decode is gone for sure; never if it stays. */
async function gone(
  session: DrivenSession,
  decode: FleetMember,
  stopped: AbortSignal,
): Promise<Loss> {
  return new Promise((resolve) => {
    let absentPolls = 0;
    const look = (): void => {
      session.deps.fleet.isSameProcess(decode).then(
        (alive) => {
          absentPolls = alive ? 0 : absentPolls + 1;
          if (absentPolls < SURE_POLLS) return;
          const message = `decode ${decode.memberId} is gone; another one goes on`;
          resolve({ code: 'DECODE_LOST', message, told: false });
        },
        () => {
          absentPolls = -HEARTBEAT_POLLS; // Redis is away: nothing is known
        },
      );
    };
    const timer = setInterval(look, POLL_MS);
    const end = (): void => {
      clearInterval(timer);
    };
    stopped.addEventListener('abort', end, { once: true });
  });
}

function internal(message: string): ServingError {
  return new ServingError('INTERNAL', 'internal error', {}, { cause: new Error(message) });
}
