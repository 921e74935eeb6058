import { reserveEvicting } from '../admission/evict-kept.js';
import { storeFull } from '../admission/reserve-lane.js';
import type { DrivenSession } from './driven-session.js';

/**
 * A plan that begins anew makes files of its own for what its session may have shared until now:
 * makes sure that the store has room for them.
 * @throws ServingError VALUE_STORE_FULL
 */
export async function reserveOwnRoom(session: DrivenSession): Promise<void> {
  const { record, deps, sessionId } = session;
  const { reservation, epoch, nextToken, model } = record;
  if (epoch === 1 || nextToken > 0 || reservation === null) return;
  const worker = await session.currentWorker();
  if (worker === null) return; // its jobs say so
  const { storeId, bytes, tokens } = reservation;
  const capacityBytes = worker.storeCapacityBytes;
  const wanted = { storeId, sessionId, bytes, heldBytes: bytes, capacityBytes };
  const reserved = await session.surely(async () => reserveEvicting(wanted, deps.store));
  if (!reserved) throw storeFull(bytes, tokens, model);
}
