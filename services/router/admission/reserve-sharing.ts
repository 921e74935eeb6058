import { ENDED_STATES, type SessionRecord } from '../../domain/session-record.js';
import { ServingError } from '../../domain/serving-error.js';
import type { SessionStore } from '../../domain/session-store.js';
import { SharedSegments } from './shared-segments.js';

/** Records that are read at once. */
const RECORDS_AT_ONCE = 32;

type SharingStore = Pick<SessionStore, 'records' | 'reservations'>;

/** Memory that a session wants in a value store. */
export interface WantedRoom {
  readonly storeId: string;
  readonly sessionId: string;
  readonly bytes: number;
  /** Of them, what the session has reserved there already. */
  readonly heldBytes: number;
  /** Of them, what it will link of a session that is there; default 0. */
  readonly linkedBytes?: number;
  readonly capacityBytes: number;
}

/**
 * Reserves memory for a session. Where promises have reached the store's capacity, they may pass it by
 * what they count more than once: see SharedSegments.
 *
 * @returns false if there is no room; what the session held before stays
 */
export async function reserveSharing(wanted: WantedRoom, store: SharingStore): Promise<boolean> {
  const { storeId, sessionId, bytes, heldBytes, capacityBytes } = wanted;
  const { reservations } = store;
  if (await reservations.reserve(storeId, sessionId, bytes, capacityBytes)) return true;
  const most = mostPromised(wanted, await sharedIn(storeId, store));
  if (most === capacityBytes) return false;
  if (!(await reservations.reserve(storeId, sessionId, bytes, most))) return false;
  // A holder may have gone since its record was read: others are then all that its segments count for.
  const reservedBytes = await reservations.reservedBytes(storeId);
  if (reservedBytes <= mostPromised(wanted, await sharedIn(storeId, store))) return true;
  if (heldBytes === 0) await reservations.release(storeId, sessionId);
  else await reservations.reserve(storeId, sessionId, heldBytes, Number.MAX_SAFE_INTEGER);
  return false;
}

/** What reservations may add up to once the wanted room is among them. */
export function mostPromised(
  { capacityBytes, linkedBytes = 0 }: WantedRoom,
  shared: SharedSegments,
): number {
  return capacityBytes + linkedBytes + shared.countedTwice;
}

/** What sessions that have not ended share in a store. */
export async function sharedIn(
  storeId: string,
  { records }: Pick<SessionStore, 'records'>,
): Promise<SharedSegments> {
  const shared = new SharedSegments();
  const ids = await records.activeSessionIds();
  for (let begin = 0; begin < ids.length; begin += RECORDS_AT_ONCE) {
    const some = ids.slice(begin, begin + RECORDS_AT_ONCE);
    for (const record of await Promise.all(some.map(async (id) => readable(id, records)))) {
      if (record === null || ENDED_STATES.has(record.state)) continue;
      if (record.reservation?.storeId === storeId) shared.add(record);
    }
  }
  return shared;
}

/** A record; null if there is none, or for another version's, left to a router that can read it. */
export async function readable(
  sessionId: string,
  records: SessionStore['records'],
): Promise<SessionRecord | null> {
  try {
    return await records.load(sessionId);
  } catch (error) {
    if (error instanceof ServingError && error.code === 'DATA_LOSS') return null;
    throw error;
  }
}
