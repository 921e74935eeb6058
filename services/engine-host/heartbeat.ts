import type { FleetMember } from '../domain/fleet.js';
import type { Fleet } from '../domain/session-store.js';

export const HEARTBEAT_INTERVAL_MS = 2000;

export interface Heartbeat {
  /** Announces now, out of turn: a change that routers should see at once. */
  beat(): Promise<void>;
  /** Stops and takes the member out of the fleet. */
  withdraw(): Promise<void>;
}

/**
 * Announces a member at once and then every 2 s. A failed announcement is reported and tried again
 * at the next beat: routers stop counting on the member when none came for 6 s.
 */
export async function startHeartbeat(
  fleet: Pick<Fleet, 'announce' | 'withdraw'>,
  describe: () => FleetMember,
  onError: (error: unknown) => void,
): Promise<Heartbeat> {
  let withdrawn = false;
  let running: Promise<void> = Promise.resolve();
  const beat = (): Promise<void> => {
    running = running.then(async () => {
      if (withdrawn) return;
      try {
        await fleet.announce(describe());
      } catch (error) {
        onError(error);
      }
    });
    return running;
  };
  await beat();
  const timer = setInterval(() => void beat(), HEARTBEAT_INTERVAL_MS);
  return {
    beat,
    async withdraw() {
      withdrawn = true;
      clearInterval(timer);
      // A beat under way would bring the member back.
      await running;
      try {
        await fleet.withdraw(describe().memberId);
      } catch (error) {
        onError(error);
      }
    },
  };
}
