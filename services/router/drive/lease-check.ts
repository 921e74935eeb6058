import type { DrivenSession } from './driven-session.js';
import { LeaseLost } from './record-keeper.js';
import { settledWithin } from './redis-gap.js';

/** What a question about the lease may hold up: memory is to be free within 500 ms of a cancel. */
const PATIENCE_MS = 100;

/** Whether another router drives the session by now. False while Redis does not say. */
export async function isElsewhere({ deps, sessionId }: DrivenSession): Promise<boolean> {
  const lease = deps.store.records.takeLease(sessionId, deps.driverId);
  if (!(await settledWithin(PATIENCE_MS, lease))) return false;
  return (await lease.catch(() => 'held')) === 'elsewhere';
}

/**
 * Before a write that no script fences: the lease is held and the record is the one known here.
 * @throws LeaseLost if another router drives the session, or has done so meanwhile
 */
export async function requireOwn({ deps, sessionId, record }: DrivenSession): Promise<void> {
  const { records } = deps.store;
  const lease = await records.takeLease(sessionId, deps.driverId);
  if (lease === 'elsewhere') throw new LeaseLost(`session ${sessionId} has another driver`);
  const stored = await records.load(sessionId);
  if (stored !== null && stored.revision === record.revision) return;
  throw new LeaseLost(`session ${sessionId} was changed by another driver`);
}
