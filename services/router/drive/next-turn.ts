import { ServingError } from '../../domain/serving-error.js';
import type { FleetMember } from '../../domain/fleet.js';
import type { TurnRecord } from '../../domain/session-record.js';
import { MAX_TURN_TOKENS } from '../../domain/turn.js';
import type { CheckedHeader } from '../admission/check-header.js';
import { reserveTurn } from '../admission/reserve-turn.js';
import { PromptTokens } from './prompt-tokens.js';
import type { DrivenSession } from './driven-session.js';
import { requireOwn } from './lease-check.js';
import { findLane, newPlan, whyNoLane } from './new-plan.js';
import type { RecordChange } from './record-keeper.js';

/**
 * Opens another turn on a kept session: writes its ids down and changes the record. A turn that decode
 * does not append itself goes back to a lane, over the segments of the prompt but its tail.
 *
 * @param afterSequence the last event of the turns before
 * @throws ServingError VALUE_STORE_FULL, PROMPT_TOO_LONG, NO_WORKER, NO_DECODE, SESSION_ENDED; the session is as
 *   it was then
 */
export async function openNextTurn(
  session: DrivenSession,
  tokenIds: Uint32Array,
  header: CheckedHeader,
  afterSequence: number,
): Promise<void> {
  const { deps, record, sessionId } = session;
  const { events, tokenIds: ids } = deps.store;
  const beginToken = record.historyTokens;
  const endToken = beginToken + tokenIds.length;
  const worker = await modelMember(session);
  const mostTokens = endToken + header.generation.stopping.maxNewTokens;
  const reservation = await reserveTurn(record, worker, mostTokens, deps.store);
  const byLane = tokenIds.length > MAX_TURN_TOKENS;
  const tailBegin = record.segments.at(-1)?.beginToken ?? 0;
  const turn: TurnRecord = {
    number: afterSequence === 0 ? 0 : record.turn.number + 1, // a fork has no events yet
    ...{ afterSequence, beginToken, endToken },
    cachedTokens: byLane ? tailBegin : beginToken,
    promptReran: byLane && tailBegin === 0,
    admittedUnixMs: deps.nowUnixMs(),
    prefilledUnixMs: null,
    sparseWork: null,
  };
  const lane = byLane ? await findLane(session, reservation) : null;
  if (byLane && lane === null) {
    throw whyNoLane(record, await deps.fleet.members()) ?? noLane(record.model);
  }
  await requireOwn(session);
  await events.beginTurn(sessionId);
  await ids.put(sessionId, beginToken, tokenIds);
  const change = { ...turnChange(header), turn, reservation };
  if (lane === null) {
    await session.keeper.change({ ...change, state: 'decoding' });
  } else {
    await newPlan(session, lane, tailBegin, {
      ...change,
      receivedTokens: endToken,
      turnCuts: tailBegin > 0 ? [...record.turnCuts, tailBegin] : record.turnCuts,
    });
  }
  session.tokens = new PromptTokens(sessionId, ids, record.policy.cutRule, {
    stored: endToken,
    lane: byLane ? endToken : record.receivedTokens,
  });
}

/** What another turn's header changes in the record. */
function turnChange(header: CheckedHeader): RecordChange {
  const { generation, deadlineUnixMs, onDisconnect, resumeGraceMs, keepSessionMs } = header;
  return {
    keepUntilUnixMs: null,
    ...{ generation, deadlineUnixMs, onDisconnect, resumeGraceMs, keepSessionMs },
    priority: header.priority,
  };
}

/** Somebody who knows the model's sizes: the session's worker, or any other. */
async function modelMember(session: DrivenSession): Promise<FleetMember> {
  const own = (await session.currentWorker()) ?? session.worker;
  if (own !== null) return own;
  const { model, modelFingerprint, reservation } = session.record;
  const members = await session.surely(async () => session.deps.fleet.members());
  const other = members.find(
    (member) =>
      member.role === 'worker' &&
      member.modelFingerprint === modelFingerprint &&
      member.storeId === reservation?.storeId,
  );
  if (other === undefined) throw noLane(model);
  return other;
}

function noLane(model: string): ServingError {
  return new ServingError(
    'NO_WORKER',
    `no worker takes sessions of model ${model} now; try again`,
    {
      retryAfterMs: 2_000,
    },
  );
}
