import type { OverSessionsOptions } from '../../engine-host/free-over-sessions.js';
import type { DecodeSessions } from './decode-sessions.js';
import type { SessionFence } from './requests.js';

/**
 * A decode's sessions end by themselves when Redis has none such, another plan, or a later attempt:
 * one that is kept appends no event, and so hears of none of it.
 */
export function overDecodes(
  sessions: DecodeSessions,
  outside: Pick<OverSessionsOptions<SessionFence>, 'records' | 'onError'>,
): OverSessionsOptions<SessionFence> {
  return {
    ...outside,
    held: () => sessions.all(),
    isSuperseded: ({ epoch, attempt }, record) =>
      record.epoch !== epoch || record.attempt > attempt,
    free: async (held) => sessions.releaseHeld(held),
  };
}
