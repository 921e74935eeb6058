import { setTimeout as delay } from 'node:timers/promises';
import { ENDED_STATES, type SessionRecord } from '../../domain/session-record.js';
import type { SessionStore } from '../../domain/session-store.js';
import {
  mostPromised,
  readable,
  reserveSharing,
  sharedIn,
  type WantedRoom,
} from './reserve-sharing.js';

/** How long evicted sessions may take to give their memory back, and how often to look. */
const EVICTION_MS = 1_000;
const LOOK_MS = 20;
/** Kept sessions may get their next turn while they are asked to go: others are asked then. */
const MAX_ROUNDS = 3;
/** Kept sessions of a store that are considered, and records that are read at once. */
const MAX_KEPT = 10_000;
const RECORDS_AT_ONCE = 32;

/** The cluster's memory, as far as eviction needs it. */
export type EvictionStore = Pick<
  SessionStore,
  'records' | 'reservations' | 'kept' | 'driverRequests'
>;

/**
 * Reserves memory for a session and, where the store is full, ends kept sessions for it: those that
 * were used longest ago, and no more than it takes. Sessions in a turn are never touched.
 *
 * @param spared ids of kept sessions that must stay
 * @returns false if there is no room; if not even all kept sessions would make any, none was ended
 */
export async function reserveEvicting(
  wanted: WantedRoom,
  store: EvictionStore,
  spared: readonly string[] = [],
): Promise<boolean> {
  const { storeId, sessionId } = wanted;
  const reserve = async (): Promise<boolean> => reserveSharing(wanted, store);
  if (await reserve()) return true;
  const asked = new Set([...spared, sessionId]);
  for (let round = 0; round < MAX_ROUNDS; round += 1) {
    const reservedBytes = await store.reservations.reservedBytes(storeId);
    const shared = await sharedIn(storeId, store);
    let missingBytes =
      reservedBytes - wanted.heldBytes + wanted.bytes - mostPromised(wanted, shared);
    const victims: SessionRecord[] = [];
    for await (const record of keptRecords(storeId, asked, store)) {
      if (missingBytes <= 0) break;
      victims.push(record);
      missingBytes -= shared.remove(record);
    }
    if (missingBytes > 0) return false;
    for (const victim of victims) asked.add(victim.sessionId);
    const heard = await Promise.all(
      victims.map(async (victim) => askToGo(victim.sessionId, store)),
    );
    // Without a driver nobody goes; but then a session may have gone by itself.
    const patienceMs = heard.includes(true) || victims.length === 0 ? EVICTION_MS : 0;
    if (await within(patienceMs, reserve)) return true;
  }
  return false;
}

/**
 * Ends the kept session that was used longest ago of those that some decodes hold.
 * @returns id of the decode that has a place now; null: none has
 */
export async function evictFromDecodes(
  storeIds: readonly string[],
  decodeIds: ReadonlySet<string>,
  store: EvictionStore,
): Promise<string | null> {
  for (const storeId of storeIds) {
    let tries = 0;
    for await (const { sessionId, decodeId } of keptRecords(storeId, new Set(), store)) {
      if (decodeId === null || !decodeIds.has(decodeId)) continue;
      if (!(await askToGo(sessionId, store))) continue;
      const isGone = async (): Promise<boolean> => {
        const record = await store.records.load(sessionId);
        return record === null || ENDED_STATES.has(record.state);
      };
      if (await within(EVICTION_MS, isGone)) return decodeId;
      tries += 1;
      if (tries === MAX_ROUNDS) break;
    }
  }
  return null;
}

/** Kept sessions of a store, least recently used first; read as far as they are asked for. */
async function* keptRecords(
  storeId: string,
  except: ReadonlySet<string>,
  { kept, records }: EvictionStore,
): AsyncGenerator<SessionRecord> {
  const ids = await kept.leastRecentlyUsed(storeId, MAX_KEPT);
  const candidates = ids.filter((id) => !except.has(id));
  for (let begin = 0; begin < candidates.length; begin += RECORDS_AT_ONCE) {
    const some = candidates.slice(begin, begin + RECORDS_AT_ONCE);
    for (const record of await Promise.all(some.map(async (id) => readable(id, records)))) {
      if (record?.state === 'kept' && record.reservation?.storeId === storeId) yield record;
    }
  }
}

/**
 * Whoever drives the session, this router too, hears it and ends it if it is still idle.
 * @returns false if nobody drives it now
 */
async function askToGo(
  sessionId: string,
  { records, driverRequests }: EvictionStore,
): Promise<boolean> {
  const driverId = await records.leaseHolder(sessionId);
  return driverId !== null && driverRequests.send(driverId, { kind: 'evict', sessionId });
}

async function within(ms: number, done: () => Promise<boolean>): Promise<boolean> {
  const endMs = performance.now() + ms;
  for (;;) {
    if (await done()) return true;
    if (performance.now() >= endMs) return false;
    await delay(LOOK_MS);
  }
}
