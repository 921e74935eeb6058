import type { ErrorCode, ErrorDetails } from '../../domain/serving-error.js';
import type { ErrorEvent, InterruptedEvent } from '../../domain/session-event.js';
import type { Refusal, TurnEvent } from './event-publisher.js';

/** What goes away when the turn is run again, here or elsewhere: bytes that broke, a fault of this process. */
const CURED_BY_RERUN: ReadonlySet<ErrorCode> = new Set(['DATA_LOSS', 'INTERNAL', 'SHUTTING_DOWN']);
/** By then a turn of typical length has ended and given its memory back. */
const MEMORY_RETRY_MS = 5_000;

/** A quota and when to try again, for the refusals that have them. */
export const PRIVATE_MEMORY_DETAILS: ErrorDetails = {
  retryAfterMs: MEMORY_RETRY_MS,
  quota: { subject: 'decode private memory', description: 'DECODE_MAX_PRIVATE_BYTES' },
};

/** The last event of a turn that cannot go on here: given back to the driver, or ended for good. */
export function failureEvent(code: ErrorCode, message: string): InterruptedEvent | ErrorEvent {
  if (CURED_BY_RERUN.has(code)) return { type: 'interrupted', code, message };
  const details = code === 'VALUE_STORE_FULL' ? PRIVATE_MEMORY_DETAILS : {};
  return { type: 'error', code, message, details };
}

/** Of a turn that goes on where, or when, others leave it the memory. */
export function noMemoryLeft(): InterruptedEvent {
  const message = 'decode has no private memory left for this session beside the others';
  return { type: 'interrupted', code: 'VALUE_STORE_FULL', message };
}

/** Of a turn that would not even fit alone. */
export function tooLargeForMemory(): ErrorEvent {
  const message = "the session alone would take more than decode's private memory";
  return { type: 'error', code: 'VALUE_STORE_FULL', message, details: PRIVATE_MEMORY_DETAILS };
}

/**
 * Gives a turn back whose stream has lost tokens that this decode said: its driver may not have read
 * them, and waits. If the refusal is that of an attempt that is over, this is refused likewise.
 *
 * @returns null if the refused event asks for none
 */
export function lostTokens(refused: TurnEvent, refusal: Refusal): TurnEvent | null {
  const { sessionId, epoch, attempt, turn, event } = refused;
  if (refusal !== 'stale-epoch') return null;
  if (event.type !== 'token' && event.type !== 'finished') return null;
  const message = "the session's event stream came back without the last tokens";
  const interrupted: InterruptedEvent = { type: 'interrupted', code: 'DECODE_LOST', message };
  return { sessionId, epoch, attempt, turn, event: interrupted };
}
