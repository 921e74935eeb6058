import type { DriveDeps } from './drive-deps.js';

/** A lease lives 5 s: one renewal may be lost without losing the session. */
const RENEWAL_MS = 2_000;

/**
 * Renews a session's lease until the returned function is called, or it is lost: to another driver, or
 * with all that Redis held.
 */
export function renewLease(
  sessionId: string,
  deps: DriveDeps,
  onLost: (to: 'elsewhere' | 'gone') => void,
): () => void {
  const renew = async (): Promise<void> => {
    try {
      const answer = await deps.store.records.takeLease(sessionId, deps.driverId);
      if (answer === 'held') return;
      clearInterval(timer);
      onLost(answer);
    } catch (error) {
      deps.log.warn({ err: error, sessionId }, 'lease not renewed');
    }
  };
  const timer = setInterval(() => void renew(), RENEWAL_MS);
  return () => {
    clearInterval(timer);
  };
}
