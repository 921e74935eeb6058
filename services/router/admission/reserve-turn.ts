import type { FleetMember } from '../../domain/fleet.js';
import { ServingError } from '../../domain/serving-error.js';
import type { Reservation, SessionRecord } from '../../domain/session-record.js';
import type { Reservations } from '../../domain/session-store.js';
import { sessionBytes } from './choose-lane.js';
import { type EvictionStore, reserveEvicting } from './evict-kept.js';
import { storeFull } from './reserve-lane.js';

/**
 * Makes sure that a kept session's reservation covers its next turn. Other kept sessions make room
 * where the store is full.
 *
 * @param tokens what the session may hold at the turn's end
 * @throws ServingError PROMPT_TOO_LONG, VALUE_STORE_FULL; the old reservation stays
 */
export async function reserveTurn(
  record: SessionRecord,
  worker: FleetMember,
  tokens: number,
  store: EvictionStore,
): Promise<Reservation | null> {
  const { reservation, model, sessionId } = record;
  if (tokens > worker.maxPositions) {
    throw new ServingError(
      'PROMPT_TOO_LONG',
      `the session would have ${String(tokens)} tokens, more than the ${String(worker.maxPositions)} positions of model ${model}`,
    );
  }
  if (reservation === null || tokens <= reservation.tokens) return reservation;
  const bytes = sessionBytes(tokens, worker.kvBytesPerToken);
  const { storeId } = worker;
  const capacityBytes = worker.storeCapacityBytes;
  const heldBytes = reservation.bytes;
  if (await reserveEvicting({ storeId, sessionId, bytes, heldBytes, capacityBytes }, store)) {
    return { storeId, bytes, tokens };
  }
  throw storeFull(bytes, tokens, model);
}

/**
 * Gives back what a session holds beyond `tokens`.
 * @returns its reservation now
 */
export async function shrinkReservation(
  record: SessionRecord,
  worker: FleetMember,
  tokens: number,
  reservations: Reservations,
): Promise<Reservation | null> {
  const { reservation, sessionId } = record;
  const bytes = sessionBytes(tokens, worker.kvBytesPerToken);
  if (reservation === null || bytes >= reservation.bytes) return reservation;
  const { storeId } = reservation;
  // What others promise does not matter to it: shared segments may count more than the store has.
  const shrunk = await reservations.reserve(storeId, sessionId, bytes, Number.MAX_SAFE_INTEGER);
  return shrunk ? { storeId, bytes, tokens } : reservation;
}
