import type { GetStatusRequest__Output } from '../../../proto/gen/longshadow/router/v1/GetStatusRequest.js';
import type { GetStatusResponse } from '../../../proto/gen/longshadow/router/v1/GetStatusResponse.js';
import type { MemberStatus } from '../../../proto/gen/longshadow/router/v1/MemberStatus.js';
import type { SessionStatus } from '../../../proto/gen/longshadow/router/v1/SessionStatus.js';
import type { FleetMember } from '../../domain/fleet.js';
import { ServingError } from '../../domain/serving-error.js';
import { ENDED_STATES, type SessionRecord } from '../../domain/session-record.js';
import type { Unary } from '../../platform/rpc/unary.js';
import { isOwn } from '../auth/session-owner.js';
import type { RouterDeps } from './router-deps.js';

/** Router.GetStatus: asks every member; one that does not answer in a second is unreachable. */
export function makeGetStatus(
  deps: RouterDeps,
): Unary<GetStatusRequest__Output, GetStatusResponse> {
  return async (_request, { tenant }) => {
    const [members, sessionIds] = await Promise.all([
      deps.fleet.members(),
      deps.store.records.activeSessionIds(),
    ]);
    const [memberStatus, sessions] = await Promise.all([
      Promise.all(members.map(async (member) => describeMember(member, deps))),
      Promise.all(sessionIds.map(async (id) => describeSession(id, tenant, deps))),
    ]);
    return { members: memberStatus, sessions: sessions.flat() };
  };
}

async function describeMember(member: FleetMember, deps: RouterDeps): Promise<MemberStatus> {
  const { memberId, role, address, model, device, instructionSet } = member;
  const { draining, patternsSha256 } = member;
  const known = {
    ...{ memberId, role, address, model, draining, patternsSha256 },
    device: `${device} ${instructionSet}`.trim(),
  };
  try {
    const peers = role === 'worker' ? deps.workers : deps.decodes;
    return { ...known, reachable: true, ...(await peers.getStatus(address)) };
  } catch (error) {
    deps.log.debug({ err: error, memberId }, 'member did not answer');
    return { ...known, reachable: false };
  }
}

/** Nothing for a session of another tenant than the caller's. */
async function describeSession(
  sessionId: string,
  tenant: string | null,
  deps: RouterDeps,
): Promise<SessionStatus[]> {
  const record = await loadReadable(sessionId, deps);
  if (record === null || ENDED_STATES.has(record.state) || !isOwn(record, tenant)) return [];
  const { state, model, receivedTokens, nextToken, epoch, reservation } = record;
  const reservedBytes = reservation?.bytes ?? 0;
  return [{ sessionId, state, model, receivedTokens, nextToken, epoch, reservedBytes }];
}

/** Null too for a record of another version: it must not hide the others. */
async function loadReadable(sessionId: string, deps: RouterDeps): Promise<SessionRecord | null> {
  try {
    return await deps.store.records.load(sessionId);
  } catch (error) {
    if (!(error instanceof ServingError && error.code === 'DATA_LOSS')) throw error;
    deps.log.warn({ err: error, sessionId }, 'a session record is not readable');
    return null;
  }
}
