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

/** What a session needs of the members that take it. */
export interface LaneNeeds {
  readonly model: string;
  readonly modelFingerprint: string;
  /** Of the patterns that its worker must have read; '': its policy reads none. */
  readonly patternsSha256: string;
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
 * All lanes that could take a session, best first: the store that is wished for, then the emptiest,
 * then the least busy worker and decode.
 *
 * @throws ServingError NO_WORKER or NO_DECODE when there is none, TOO_MANY_SESSIONS when all of
 *   their decodes are full
 */
export function rankLanes(
  needs: LaneNeeds,
  members: readonly FleetMember[],
  load: Load,
  { except = NOBODY, preferStoreId = null }: LaneWishes = {},
): Lane[] {
  const { model } = needs;
  const usable = members.filter(({ memberId }) => !except.has(memberId));
  const workers = fitWorkers(needs, usable);
  const fit = usable.filter((member) => takesModel(member, needs));
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
 * Workers that could run a session's chunks.
 * @throws ServingError NO_WORKER, saying so where they differ only in their pattern file
 */
export function fitWorkers(needs: LaneNeeds, members: readonly FleetMember[]): FleetMember[] {
  const workers = members.filter(
    (member) => member.role === 'worker' && member.stages === 1 && takesModel(member, needs),
  );
  if (workers.length === 0) throw noWorker(needs.model);
  const { patternsSha256 } = needs;
  if (patternsSha256 === '') return workers;
  const same = workers.filter((worker) => worker.patternsSha256 === patternsSha256);
  if (same.length === 0) throw otherPatterns(needs, workers);
  return same;
}

function takesModel(
  member: FleetMember,
  { model, modelFingerprint }: Pick<LaneNeeds, 'model' | 'modelFingerprint'>,
): boolean {
  return member.model === model && member.modelFingerprint === modelFingerprint && !member.draining;
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
        takesModel(member, near) &&
        member.storeId === near.storeId &&
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

/** Digits of a digest that tell two files apart for a reader. */
const DIGEST_BEGINNING = 12;

/** Another router may have read the same file as they. */
function otherPatterns(
  { model, patternsSha256 }: LaneNeeds,
  workers: readonly FleetMember[],
): ServingError {
  const beginning = (sha256: string): string => sha256.slice(0, DIGEST_BEGINNING);
  const theirs = [...new Set(workers.map((worker) => beginning(worker.patternsSha256)))];
  return new ServingError(
    'NO_WORKER',
    `the pattern files of router and workers differ: the session needs patterns ` +
      `${beginning(patternsSha256)} of model ${model}, and its workers have ${theirs.join(', ')}; ` +
      'start all with the same file (ROUTER_PATTERNS_FILES, WORKER_PATTERNS_FILE), ' +
      'or ask for another prefill_policy',
    { retryAfterMs: FLEET_RETRY_MS },
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
