import type { OverSessionsOptions } from '../../engine-host/free-over-sessions.js';
import type { PrefillSession } from './prefill-session.js';
import type { PrefillSessions } from './prefill-sessions.js';

/** A worker's sessions end by themselves when Redis has none such, or a later plan. */
export function overPrefills(
  sessions: PrefillSessions,
  outside: Pick<OverSessionsOptions<PrefillSession>, 'records' | 'onError'>,
): OverSessionsOptions<PrefillSession> {
  return {
    ...outside,
    held: () => sessions.all(),
    isSuperseded: ({ epoch }, record) => record.epoch > epoch,
    free: async ({ sessionId, epoch }) => sessions.release(sessionId, epoch),
  };
}
