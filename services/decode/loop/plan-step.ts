import type { BatchSession } from './batch-session.js';
import { privateKvBytes } from './private-memory.js';

/** Rows of an appended turn that a step takes beside sessions that decode, and alone. */
export const SHARED_TURN_ROWS = 64;
export const ALONE_TURN_ROWS = 256;

export interface StepPlan {
  readonly batch: readonly BatchSession[];
  /** Rows that each session may append. */
  readonly maxRows: number;
  /** Sessions that must leave, for all that grow would take the process past its private memory. */
  readonly overMemory: readonly BatchSession[];
  /** Sessions whose own pages alone would pass the private memory: waiting helps none of them. */
  readonly tooLarge: readonly BatchSession[];
}

/**
 * Picks the sessions of the next step: all that have a turn, in the order they joined. A turn's
 * rows come in small pieces while others decode, so that their tokens keep flowing. Where memory
 * runs out, the newest of those that grow goes first: the oldest has the most to run again.
 *
 * @param sessions all sessions held, idle ones included, oldest first: their private pages count
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
  const bytesAfter = (session: BatchSession): number =>
    bytesAt(session, session.tokens + (session.turn === null ? 0 : session.nextRows(maxRows)));
  const growing = active.filter(
    (session) => bytesAfter(session) > bytesAt(session, session.tokens),
  );
  const tooLarge = growing.filter((session) => bytesAfter(session) > limits.maxPrivateBytes);
  const overMemory: BatchSession[] = [];
  let privateBytes = held.reduce((sum, session) => sum + bytesAfter(session), 0);
  for (const session of tooLarge) privateBytes -= bytesAfter(session);
  for (const session of growing.reverse()) {
    if (privateBytes <= limits.maxPrivateBytes) break;
    if (tooLarge.includes(session)) continue;
    overMemory.push(session);
    privateBytes -= bytesAfter(session);
  }
  const leaving = new Set([...tooLarge, ...overMemory]);
  return {
    batch: active.filter((session) => !leaving.has(session)),
    maxRows,
    overMemory,
    tooLarge,
  };
}
