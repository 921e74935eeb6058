import type { DriveDeps } from './drive-deps.js';

/** How often a router looks for sessions whose driver is gone. */
const LOOK_MS = 500;
/** After Redis was away leases have run out that their drivers are about to renew. */
const AFTER_GAP_MS = 8_000;

/**
 * Looks for sessions that nobody drives, until the returned function is called.
 * @param adopt takes one over, if nobody else did meanwhile
 */
export function watchUndriven(
  deps: DriveDeps,
  adopt: (sessionId: string) => Promise<unknown>,
): () => void {
  let quietUntilMs = 0;
  let looking = false;
  const look = async (): Promise<void> => {
    if (looking || performance.now() < quietUntilMs) return;
    looking = true;
    try {
      for (const sessionId of await deps.store.records.undrivenSessionIds()) {
        if (performance.now() < quietUntilMs) return;
        await adopt(sessionId);
      }
    } catch (error) {
      quietUntilMs = performance.now() + AFTER_GAP_MS;
      deps.log.warn({ err: error }, 'could not look for sessions that nobody drives');
    } finally {
      looking = false;
    }
  };
  const timer = setInterval(() => void look(), LOOK_MS);
  return () => {
    clearInterval(timer);
  };
}
