import type { GetStatusResponse__Output } from '../../../proto/gen/longshadow/router/v1/GetStatusResponse.js';
import type { MemberStatus__Output } from '../../../proto/gen/longshadow/router/v1/MemberStatus.js';
import type { SessionStatus__Output } from '../../../proto/gen/longshadow/router/v1/SessionStatus.js';

/** A worker or decode; bytes and counts are 0 when it is not reachable. */
export interface ClusterMemberStatus {
  readonly memberId: string;
  readonly role: string;
  readonly address: string;
  readonly model: string;
  readonly device: string;
  readonly reachable: boolean;
  readonly draining: boolean;
  readonly sessions: number;
  readonly storeFiles: number;
  readonly storeFileBytes: number;
  readonly mappings: number;
  readonly mappedBytes: number;
  readonly privateBytes: number;
  readonly residentBytes: number;
  readonly prefillChunks: number;
  readonly decodeCalls: number;
  readonly decodeSteps: number;
  /** Of the head patterns that a worker has read; '' for a decode. */
  readonly patternsSha256: string;
}

export interface ClusterSessionStatus {
  readonly sessionId: string;
  readonly state: string;
  readonly model: string;
  readonly receivedTokens: number;
  readonly nextToken: number;
  readonly epoch: number;
  readonly reservedBytes: number;
}

/** GetStatus with numbers instead of decimal strings. */
export interface ClusterStatus {
  readonly members: readonly ClusterMemberStatus[];
  readonly sessions: readonly ClusterSessionStatus[];
}

export function toClusterStatus(response: GetStatusResponse__Output): ClusterStatus {
  return {
    members: response.members.map(toMember),
    sessions: response.sessions.map(toSession),
  };
}

function toMember(member: MemberStatus__Output): ClusterMemberStatus {
  return {
    ...member,
    storeFiles: Number(member.storeFiles),
    storeFileBytes: Number(member.storeFileBytes),
    mappings: Number(member.mappings),
    mappedBytes: Number(member.mappedBytes),
    privateBytes: Number(member.privateBytes),
    residentBytes: Number(member.residentBytes),
    prefillChunks: Number(member.prefillChunks),
    decodeCalls: Number(member.decodeCalls),
    decodeSteps: Number(member.decodeSteps),
  };
}

function toSession(session: SessionStatus__Output): ClusterSessionStatus {
  return {
    ...session,
    receivedTokens: Number(session.receivedTokens),
    nextToken: Number(session.nextToken),
    reservedBytes: Number(session.reservedBytes),
  };
}
