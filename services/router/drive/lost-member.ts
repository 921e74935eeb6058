import type { FleetMember } from '../../domain/fleet.js';
import { ServingError } from '../../domain/serving-error.js';
import type { DrivenSession } from './driven-session.js';
import type { FleetView } from './fleet-view.js';

/** How often the driver looks whether a member that it waits for still lives. */
const POLL_MS = 1_000;
/** Looks in a row that must find it gone. */
const SURE_POLLS = 2;
/** More of them after Redis was away, in which heartbeats come back. */
const HEARTBEAT_POLLS = 4;

/**
 * Settles once a member is gone for sure; never if it stays.
 * @returns what was lost, as an error
 */
export async function gone(
  member: FleetMember,
  fleet: FleetView,
  stopped: AbortSignal,
): Promise<ServingError> {
  return new Promise((resolve) => {
    let absentPolls = 0;
    const look = (): void => {
      fleet.isSameProcess(member).then(
        (alive) => {
          absentPolls = alive ? 0 : absentPolls + 1;
          if (absentPolls >= SURE_POLLS) resolve(lostMember(member));
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

/**
 * Makes a call that needs some members: one that stops answering does not hold it up longer than its
 * heartbeat lasts.
 * @throws ServingError DECODE_LOST or WORKER_LOST when one of them is gone; what the call throws
 */
export async function whileThere<T>(
  { deps, signal }: DrivenSession,
  members: readonly FleetMember[],
  call: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const stop = new AbortController();
  const lost = members.map(async (member) => {
    throw await gone(member, deps.fleet, stop.signal);
  });
  try {
    return await Promise.race([call(AbortSignal.any([signal, stop.signal])), ...lost]);
  } finally {
    stop.abort();
  }
}

function lostMember({ role, memberId }: FleetMember): ServingError {
  const code = role === 'decode' ? 'DECODE_LOST' : 'WORKER_LOST';
  return new ServingError(code, `${role} ${memberId} is gone; another one goes on`);
}
