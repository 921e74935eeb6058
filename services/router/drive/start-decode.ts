import type { FleetMember } from '../../domain/fleet.js';
import { type ErrorCode, ServingError } from '../../domain/serving-error.js';
import { decodesFor, type Load } from '../admission/choose-lane.js';
import type { DrivenSession } from './driven-session.js';
import { processOf } from './fleet-view.js';
import { whileThere } from './lost-member.js';
import { RecoveryTime } from './recovery-time.js';
import { appendCall, startCall, type TurnHistory } from './turn-calls.js';
import type { TurnFollower } from './turn-follower.js';

/** Another decode may do what this one cannot. */
const TRY_ANOTHER: ReadonlySet<ErrorCode> = new Set([
  'DECODE_LOST',
  'SHUTTING_DOWN',
  'TOO_MANY_SESSIONS',
  'VALUE_STORE_FULL',
]);

/** Heartbeats alone say how busy a decode is. */
const NO_LOAD: Load = { reservedBytes: new Map(), placedSessions: new Map() };

/**
 * Brings a decode to answer the turn: the one that holds the session, or else any of the lane's
 * store, with the history of what it has to run again.
 *
 * @param lost processes that had the turn and lost it
 * @throws ServingError WORKER_LOST when the hand-off cannot be had, DATA_LOSS when it does not match,
 *   NO_DECODE when none comes in time; the decode's refusals
 */
export async function startDecode(
  session: DrivenSession,
  follower: TurnFollower,
  lost: ReadonlySet<string>,
): Promise<FleetMember> {
  const { deps } = session;
  const holder = await holderOf(session, lost);
  if (holder !== null && (await goesOn(session, follower, holder))) return holder;
  const time = new RecoveryTime(session);
  let avoided = lost;
  for (;;) {
    const decode = await choose(session, avoided);
    if (decode === null) {
      avoided = new Set(); // one that was full may have room by now, one that failed may not again
      await time.pause(noDecode());
      continue;
    }
    session.decode = decode;
    // From here on the stream takes nothing more from an earlier attempt.
    await session.change(({ attempt }) => ({
      attempt: attempt + 1,
      decodeId: decode.memberId,
    }));
    const history = await historyOf(session, follower);
    follower.beginAttempt();
    try {
      await start(session, decode, history);
      if (holder !== null && holder.memberId !== decode.memberId) freeOld(session, holder);
      return decode;
    } catch (error) {
      if (!(error instanceof ServingError) || !TRY_ANOTHER.has(error.code)) throw error;
      deps.log.warn({ err: error, decodeId: decode.memberId }, 'decode did not take a session');
      avoided = new Set([...avoided, processOf(decode)]);
    }
  }
}

/** It refused the turn, and still holds the session. */
function freeOld({ deps, sessionId }: DrivenSession, holder: FleetMember): void {
  deps.decodes.releaseSession(holder.address, sessionId).catch((error: unknown) => {
    deps.log.info({ err: error, sessionId }, 'a decode was not told that another one goes on');
  });
}

async function start(
  session: DrivenSession,
  decode: FleetMember,
  history: TurnHistory,
): Promise<void> {
  const worker = await handOffWorker(session);
  const call = startCall(session.record, history, worker.address);
  await whileThere(session, [decode, worker], async (signal) =>
    session.deps.decodes.startSession(decode.address, call, signal),
  );
  await nowDecoding(session);
}

/** The first tokens may be there already; the turn's end too, which is written down elsewhere. */
async function nowDecoding(session: DrivenSession): Promise<void> {
  await session.change(({ state }) => (state === 'sealing' ? { state: 'decoding' } : {}));
}

/** The decode that has the session since an earlier turn or driver, if it is there still. */
async function holderOf(
  session: DrivenSession,
  lost: ReadonlySet<string>,
): Promise<FleetMember | null> {
  const { record, deps } = session;
  const { decode } = session;
  if (decode === null || record.decodeId !== decode.memberId || record.attempt === 0) return null;
  if (lost.has(processOf(decode))) return null;
  const same = await session.surely(async () => deps.fleet.isSameProcess(decode));
  return same ? decode : null;
}

/** Whether the decode that holds the session answers the turn, or does so already. */
async function goesOn(
  session: DrivenSession,
  follower: TurnFollower,
  decode: FleetMember,
): Promise<boolean> {
  const { deps, record } = session;
  const { turn, sealedTokens } = record;
  follower.beginAttempt();
  try {
    if (turn.beginToken < sealedTokens) {
      // Another driver has started it: a repeated start changes nothing.
      await start(session, decode, await historyOf(session, follower));
    } else {
      const endToken = turn.endToken ?? turn.beginToken;
      const ids = await session.surely(async () => session.tokens.slice(turn.beginToken, endToken));
      const call = appendCall(record, [...ids]);
      await whileThere(session, [decode], async (signal) =>
        deps.decodes.appendTurn(decode.address, call, signal),
      );
    }
    return true;
  } catch (error) {
    if (!(error instanceof ServingError)) throw error;
    if (error.code === 'SESSION_BUSY') return true; // it runs: another driver had asked
    const unheld = TRY_ANOTHER.has(error.code) || error.code === 'SESSION_NOT_FOUND';
    if (unheld || error.code === 'STALE_EPOCH') return false;
    throw error;
  }
}

async function choose(
  session: DrivenSession,
  except: ReadonlySet<string>,
): Promise<FleetMember | null> {
  const { record, deps } = session;
  const { model, modelFingerprint } = record;
  const storeId = record.reservation?.storeId ?? session.worker?.storeId ?? '';
  const members = await session.surely(async () => deps.fleet.members());
  const usable = members.filter((member) => !except.has(processOf(member)));
  const planned = usable.find(({ memberId }) => memberId === session.decode?.memberId);
  if (planned !== undefined && !planned.draining && !except.size) return planned;
  const [best] = decodesFor({ model, modelFingerprint, storeId }, usable, NO_LOAD);
  return best ?? null;
}

/** All after the sealed tokens that is certain: earlier attempts can append no more. */
async function historyOf(session: DrivenSession, follower: TurnFollower): Promise<TurnHistory> {
  const { deps, record, sessionId } = session;
  const last = await session.surely(async () => deps.store.events.lastSequence(sessionId));
  await follower.caughtUp(last ?? 0);
  const { turn, sealedTokens } = record;
  const endToken = turn.endToken ?? sealedTokens;
  const ids =
    sealedTokens < endToken
      ? await session.surely(async () => session.tokens.slice(sealedTokens, endToken))
      : [];
  const { answer, firstTokenUnixMs } = follower;
  return { tokenIds: [...ids, ...answer], answeredTokens: answer.length, firstTokenUnixMs };
}

/** Where the hand-off is. */
async function handOffWorker(session: DrivenSession): Promise<FleetMember> {
  const worker = await session.currentWorker();
  if (worker !== null) return worker;
  throw new ServingError('WORKER_LOST', `worker ${session.workerId} is gone`);
}

function noDecode(): ServingError {
  return new ServingError(
    'NO_DECODE',
    'no decode came to take the session on; start one beside its worker, or send the request again',
    { retryAfterMs: 5_000 },
  );
}
