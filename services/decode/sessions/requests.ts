import type { TurnHistory, TurnRequest } from '../loop/turn.js';

/** What every call about a session carries: the higher of two (epoch, attempt) is the newer. */
export interface SessionFence {
  readonly sessionId: string;
  /** Number of the plan. */
  readonly epoch: number;
  /** Times that a decode took the session. */
  readonly attempt: number;
}

export interface StartSession extends TurnRequest, SessionFence {
  readonly fingerprint: string;
  readonly workerAddress: string;
  readonly history: TurnHistory;
}

export interface AppendTurn extends TurnRequest, SessionFence {
  readonly tokenIds: Uint32Array;
}

type Fence = Pick<SessionFence, 'epoch' | 'attempt'>;

/** Below 0 if `left` is older, 0 if both are the same. */
export function compareFences(left: Fence, right: Fence): number {
  return left.epoch - right.epoch || left.attempt - right.attempt;
}
