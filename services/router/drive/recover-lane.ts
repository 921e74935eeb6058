import { type ErrorCode, ServingError } from '../../domain/serving-error.js';
import type { DrivenSession } from './driven-session.js';
import { findLane, newPlan } from './new-plan.js';
import { RecoveryTime } from './recovery-time.js';

/** What another plan can cure. */
const CURABLE: ReadonlySet<ErrorCode> = new Set(['WORKER_LOST', 'SHUTTING_DOWN', 'DATA_LOSS']);
/** Bytes that do not match end the session at this count. */
const MAX_DATA_LOSSES = 2;

/**
 * Makes good what a session lost: waits for a lane, its own worker's return included, and moves it
 * there under a new epoch.
 *
 * @throws ServingError `error` if no plan can cure it, or no lane came in time; DATA_LOSS at the
 *   second corruption
 */
export async function recoverLane(session: DrivenSession, error: unknown): Promise<void> {
  const { deps } = session;
  if (!(error instanceof ServingError) || session.signal.aborted) throw error;
  if (!CURABLE.has(error.code)) throw error;
  const corrupt = error.code === 'DATA_LOSS';
  const dataLosses = session.record.dataLosses + (corrupt ? 1 : 0);
  if (corrupt) {
    deps.metrics.corruption('session');
    await session.change({ dataLosses });
    if (dataLosses >= MAX_DATA_LOSSES) throw error;
  }
  await session.tellInterrupted(error.code, error.message);
  const time = new RecoveryTime(session);
  for (;;) {
    const found = await findLane(session);
    if (found !== null) {
      const keepTokens = corrupt ? 0 : session.record.nextToken;
      await newPlan(session, found, keepTokens);
      deps.metrics.replanned(error.code);
      return;
    }
    await time.pause(error);
  }
}
