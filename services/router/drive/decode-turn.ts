import type { FleetMember } from '../../domain/fleet.js';
import { type ErrorCode, ServingError } from '../../domain/serving-error.js';
import type { DrivenSession } from './driven-session.js';
import { processOf } from './fleet-view.js';
import { gone } from './lost-member.js';
import { startDecode } from './start-decode.js';
import type { FinishedTurn, TurnFollower } from './turn-follower.js';

interface Loss {
  readonly code: ErrorCode;
  readonly message: string;
  /** The decode said so itself, in the events. */
  readonly told: boolean;
}

/** A decode met bytes that do not match, and said so in the events itself. */
export class ToldDataLoss extends ServingError {
  constructor(message: string) {
    super('DATA_LOSS', message);
  }
}

/**
 * Has a decode answer a turn, and another one go on where it is lost, until the turn has ended.
 * @throws ServingError WORKER_LOST or DATA_LOSS (ToldDataLoss if the client knows) when the session needs a new plan; what ended it
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
    if (outcome.code === 'DATA_LOSS') throw new ToldDataLoss(outcome.message);
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
      gone(decode, session.deps.fleet, stop.signal).then(({ code, message }) => ({
        ...{ code, message, told: false },
      })),
    ]);
  } finally {
    stop.abort();
  }
}

function internal(message: string): ServingError {
  return new ServingError('INTERNAL', 'internal error', {}, { cause: new Error(message) });
}
