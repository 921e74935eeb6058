import type { SessionRecord } from '../../domain/session-record.js';
import { decodeTurn } from './decode-turn.js';
import type { DrivenSession } from './driven-session.js';
import type { PrefixReuse } from './prefix-reuse.js';
import { LaneRecovery } from './recover-lane.js';
import { runPrefill } from './run-prefill.js';
import type { FinishedTurn, TurnFollower } from './turn-follower.js';

/**
 * Drives a turn from wherever its record says it is to its end: prefill and seal on a lane, then
 * decode; and again from where it must, each time that a process or bytes are lost.
 *
 * @throws ServingError that ended the session; LeaseLost
 */
export async function driveTurn(
  session: DrivenSession,
  follower: TurnFollower,
  reuse: PrefixReuse,
): Promise<FinishedTurn> {
  if (follower.over) return follower.finished;
  // The events may end it at any moment: a cancel by another router, a decode that was faster.
  return Promise.race([follower.finished, untilFinished(session, follower, reuse)]);
}

async function untilFinished(
  session: DrivenSession,
  follower: TurnFollower,
  reuse: PrefixReuse,
): Promise<FinishedTurn> {
  const recovery = new LaneRecovery(session);
  for (;;) {
    try {
      if (needsLane(session.record)) await runPrefill(session, reuse);
      return await decodeTurn(session, follower);
    } catch (error) {
      await recovery.recover(error);
    }
  }
}

function needsLane({ uploadClosed, sealedTokens, receivedTokens }: SessionRecord): boolean {
  return !uploadClosed || sealedTokens < receivedTokens;
}
