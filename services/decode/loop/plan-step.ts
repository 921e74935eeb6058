import type { BatchSession } from './batch-session.js';
import { privateKvBytes } from './private-memory.js';

/** Rows of an appended turn that a step takes beside sessions that decode, and alone. */
export const SHARED_TURN_ROWS = 64;
export const ALONE_TURN_ROWS = 256;

export interface StepPlan {
  readonly batch: readonly BatchSession[];
  /** Rows that each session may append. */
  readonly maxRows: number;
  /** Sessions that would take the process past its private memory. */
  readonly overMemory: readonly BatchSession[];
}

/**
 * Picks the sessions of the next step: all that have a turn, in the order they joined. A turn's
 * rows come in small pieces while others decode, so that their tokens keep flowing.
 *
 * @param sessions all sessions held, idle ones included: their private pages count
 */
export function planStep(
  sessions: Iterable<BatchSession>,
  limits: { readonly kvBytesPerToken: number; readonly maxPrivateBytes: number },
): StepPlan {
  const held = [...sessions].filter((session) => !session.leaving);
  const active = held.filter((session) => session.turn !== null);
  const decodingElsewhere = active.some((session) => !session.appending);
  const maxRows = decodingElsewhere ? SHARED_TURN_ROWS : ALONE_TURN_ROWS;
  const bytesAt = (session: BatchSession, tokens: number): number =>
    privateKvBytes(session.sealedTokens, tokens, limits.kvBytesPerToken);
  let privateBytes = held.reduce((sum, session) => sum + bytesAt(session, session.tokens), 0);
  const batch: BatchSession[] = [];
  const overMemory: BatchSession[] = [];
  for (const session of active) {
    const growth =
      bytesAt(session, session.tokens + session.nextRows(maxRows)) -
      bytesAt(session, session.tokens);
    if (growth > 0 && privateBytes + growth > limits.maxPrivateBytes) {
      overMemory.push(session);
      privateBytes -= bytesAt(session, session.tokens);
    } else {
      batch.push(session);
      privateBytes += growth;
    }
  }
  return { batch, maxRows, overMemory };
}
