import { randomBytes } from 'node:crypto';
import { ServingError } from '../../domain/serving-error.js';
import type { SessionRecord } from '../../domain/session-record.js';
import { sessionFingerprint } from '../../platform/fingerprint.js';
import { reserveEvicting } from '../admission/evict-kept.js';
import { storeFull } from '../admission/reserve-lane.js';
import { sharableBytes } from '../admission/shared-segments.js';
import { nextCut } from '../../domain/plan-prefill-chunks.js';
import type { DriveDeps } from './drive-deps.js';
import { renewLease } from './renew-lease.js';
import { linkSegments } from './reuse-segments.js';
import type { PlacedRecord } from './session-run.js';

/** Links and copies of ids are done in far less. */
const FORK_TIMEOUT_MS = 20_000;

/**
 * Makes a kept session's twin: a record of its own, its segments by links, its ids. Its decode starts
 * at its first turn, from its history. This driver has its lease. It needs room in the store only for
 * what it does not share with the first one; see SharedSegments.
 *
 * @throws ServingError WORKER_LOST, VALUE_STORE_FULL, SESSION_ENDED; nothing is left then
 */
export async function forkSession(
  source: SessionRecord,
  keepSessionMs: number,
  deps: DriveDeps,
): Promise<PlacedRecord> {
  const { records } = deps.store;
  const worker = (await deps.fleet.members()).find(({ memberId }) =>
    source.lane.includes(memberId),
  );
  if (worker === undefined || source.reservation === null) {
    throw new ServingError('WORKER_LOST', 'the worker of the session is gone; try again', {
      retryAfterMs: 2_000,
    });
  }
  const { layerBegin, layerEnd, storeCapacityBytes } = worker;
  const record = twinOf(source, keepSessionMs, { layerBegin, layerEnd }, deps.nowUnixMs());
  const { sessionId, epoch } = record;
  const { storeId, bytes, tokens } = source.reservation;
  const wanted = {
    ...{ storeId, sessionId, bytes, heldBytes: 0, capacityBytes: storeCapacityBytes },
    linkedBytes: sharableBytes(source),
  };
  if (!(await reserveEvicting(wanted, deps.store, [source.sessionId]))) {
    throw storeFull(bytes, tokens, source.model);
  }
  const signal = AbortSignal.timeout(FORK_TIMEOUT_MS);
  const stopLease = renewLease(sessionId, deps, () => undefined);
  try {
    await records.create(record, deps.driverId);
    const linked = await linkSegments(
      { deps, signal },
      worker.address,
      source,
      { sessionId, epoch },
      source.sealedTokens,
    );
    if (linked === null) throw new ServingError('SESSION_ENDED', 'the session was released');
    await copyIds(source, sessionId, deps);
    const twin = await records.compareAndSet(record, { ...record, ...linked }, deps.driverId);
    if (twin === null) throw new ServingError('SESSION_ENDED', 'the fork was ended');
    return { record: twin, worker, decode: null };
  } catch (error) {
    await undo(record, worker.address, deps);
    throw error;
  } finally {
    stopLease(); // whoever drives the twin renews it from here on
  }
}

function twinOf(
  source: SessionRecord,
  keepSessionMs: number,
  layers: { readonly layerBegin: number; readonly layerEnd: number },
  nowUnixMs: number,
): SessionRecord {
  const sessionId = randomBytes(16).toString('hex');
  const { modelFingerprint, policy } = source;
  const epoch = 1;
  return {
    ...source,
    ...{ sessionId, epoch, revision: 1, attempt: 0, decodeId: null, dataLosses: 0 },
    fingerprint: sessionFingerprint({ modelFingerprint, policy, sessionId, epoch, ...layers }),
    ...{ segments: [], origins: [], keepSessionMs },
    keepUntilUnixMs: nowUnixMs + keepSessionMs,
    createdUnixMs: nowUnixMs,
  };
}

async function copyIds(source: SessionRecord, sessionId: string, deps: DriveDeps): Promise<void> {
  const { tokenIds } = deps.store;
  const { historyTokens, policy } = source;
  for (let begin = 0; begin < historyTokens;) {
    const end = Math.min(nextCut(begin, policy.cutRule), historyTokens);
    await tokenIds.put(sessionId, begin, await tokenIds.get(source.sessionId, begin, end));
    begin = end;
  }
}

async function undo(record: SessionRecord, address: string, deps: DriveDeps): Promise<void> {
  const { records, reservations } = deps.store;
  const { sessionId, epoch, reservation } = record;
  await Promise.allSettled([
    deps.workers.releaseSession(address, sessionId, epoch),
    reservations.release(reservation?.storeId ?? '', sessionId),
    records.compareAndSet(record, { ...record, state: 'failed' }, deps.driverId),
  ]);
  await records.dropLease(sessionId, deps.driverId).catch(() => undefined);
}
