import type { DriveDeps } from './drive-deps.js';

/** A lease lives 6 s: one renewal may be lost without losing the session. */
const RENEWAL_MS = 2_000;

/** Renews a session's lease until the returned function is called, or another driver has it. */
export function renewLease(sessionId: string, deps: DriveDeps, onLost: () => void): () => void {
  const renew = async (): Promise<void> => {
    try {
      if (await deps.store.records.takeLease(sessionId, deps.driverId)) return;
      clearInterval(timer);
      onLost();
    } catch (error) {
      deps.log.warn({ err: error, sessionId }, 'lease not renewed');
    }
  };
  const timer = setInterval(() => void renew(), RENEWAL_MS);
  return () => {
    clearInterval(timer);
  };
}
