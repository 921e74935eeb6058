import type { FleetMember } from '../../domain/fleet.js';
import { ServingError } from '../../domain/serving-error.js';
import { CUT_ALIGNMENT_TOKENS } from '../../domain/plan-prefill-chunks.js';
import { FLEET_RETRY_MS } from './served-model.js';

/** A worker, and a decode on the same host that can map its segments. */
export interface Lane {
  readonly worker: FleetMember;
  readonly decode: FleetMember;
}

/** What is promised or running already. */
export interface Load {
  /** Reserved bytes by storeId. */
  readonly reservedBytes: ReadonlyMap<string, number>;
  /** Sessions by memberId, as this router has placed them (heartbeats lag by 2 s). */
  readonly placedSessions: ReadonlyMap<string, number>;
}

/** What a session that was somewhere already wants of its next lane. */
export interface LaneWishes {
  /** Ids of members to avoid: they died, or they leave. */
  readonly except?: ReadonlySet<string>;
  /** Lanes of this store come first: what the session has there need not run again. */
  readonly preferStoreId?: string | null;
}

const NOBODY: ReadonlySet<string> = new Set();

/** Host bytes of K and V: whole pages, as segments are stored. */
export function sessionBytes(tokens: number, kvBytesPerToken: number): number {
  return Math.ceil(tokens / CUT_ALIGNMENT_TOKENS) * CUT_ALIGNMENT_TOKENS * kvBytesPerToken;
}

/**
 * All lanes that could take a session of a model, best first: the store that is wished for, then the
 * emptiest, then the least busy worker and decode.
 *
 * @throws ServingError NO_WORKER or NO_DECODE when there is none, TOO_MANY_SESSIONS when all of
 *   their decodes are full
 */
export function rankLanes(
  model: string,
  modelFingerprint: string,
  members: readonly FleetMember[],
  load: Load,
  { except = NOBODY, preferStoreId = null }: LaneWishes = {},
): Lane[] {
  const fit = members.filter(
    (member) =>
      member.model === model &&
      member.modelFingerprint === modelFingerprint &&
      !member.draining &&
      !except.has(member.memberId),
  );
  const workers = fit.filter(({ role, stages }) => role === 'worker' && stages === 1);
  if (workers.length === 0) throw noWorker(model);
  const near = (worker: FleetMember): FleetMember[] =>
    fit.filter(({ role, storeId }) => role === 'decode' && storeId === worker.storeId);
  if (workers.every((worker) => near(worker).length === 0)) throw noDecode(model);
  const lanes = workers.flatMap((worker) => {
    const [decode] = decodesFor(worker, members, load, except);
    return decode === undefined ? [] : [{ worker, decode }];
  });
  if (lanes.length === 0) throw decodesFull(model, workers.flatMap(near));
  const elsewhere = ({ storeId }: FleetMember): number => (storeId === preferStoreId ? 0 : 1);
  return lanes.sort(
    (a, b) =>
      elsewhere(a.worker) - elsewhere(b.worker) ||
      fullness(a.worker, load) - fullness(b.worker, load) ||
      busy(a.worker, load) - busy(b.worker, load),
  );
}

/**
 * Decodes that could take a session whose segments are in a store, least busy first; none if all of
 * them are gone, leaving or full.
 *
 * @param near a worker of the store, or the session's model and its reservation's store
 * @param except ids of members to avoid
 */
export function decodesFor(
  near: Pick<FleetMember, 'model' | 'modelFingerprint' | 'storeId'>,
  members: readonly FleetMember[],
  load: Load,
  except: ReadonlySet<string> = NOBODY,
): FleetMember[] {
  return members
    .filter(
      (member) =>
        member.role === 'decode' &&
        member.model === near.model &&
        member.modelFingerprint === near.modelFingerprint &&
        member.storeId === near.storeId &&
        !member.draining &&
        !except.has(member.memberId) &&
        (member.maxSessions === 0 || busy(member, load) < member.maxSessions),
    )
    .sort((a, b) => busy(a, load) - busy(b, load));
}

function noWorker(model: string): ServingError {
  return new ServingError(
    'NO_WORKER',
    `no worker takes sessions of model ${model} now; try again`,
    {
      retryAfterMs: FLEET_RETRY_MS,
    },
  );
}

function noDecode(model: string): ServingError {
  return new ServingError(
    'NO_DECODE',
    `no decode of model ${model} shares a value store with a worker now; start one beside it or try again`,
    { retryAfterMs: FLEET_RETRY_MS },
  );
}

function decodesFull(model: string, decodes: readonly FleetMember[]): ServingError {
  const most = String(decodes.reduce((total, { maxSessions }) => total + maxSessions, 0));
  return new ServingError(
    'TOO_MANY_SESSIONS',
    `the decodes of model ${model} hold their ${most} sessions; try again, or start another decode`,
    {
      retryAfterMs: FLEET_RETRY_MS,
      quota: { subject: 'decode sessions', description: `at most ${most} at a time` },
    },
  );
}

function fullness({ storeId, storeCapacityBytes }: FleetMember, load: Load): number {
  return (load.reservedBytes.get(storeId) ?? 0) / Math.max(storeCapacityBytes, 1);
}

function busy({ memberId, activeSessions }: FleetMember, load: Load): number {
  return Math.max(activeSessions, load.placedSessions.get(memberId) ?? 0);
}
