import { createHash } from 'node:crypto';
import { ServingError } from '../../domain/serving-error.js';
import { SESSION_ID_PATTERN } from '../../domain/session-record.js';

/*
 * Every key of the cluster's memory.
 *
 *   longshadow:session:<id>                hash: record (JSON), revision, epoch, attempt, ended (0 or 1)
 *   longshadow:session:<id>:lease          string: driver id; lives 5 s
 *   longshadow:session:<id>:clients        sorted set: router id by unix ms until which it relays;
 *                                          lives 6 s
 *   longshadow:session:<id>:events         stream: entry `<sequence>-0`, field e = event (JSON)
 *   longshadow:session:<id>:stream         hash: sequence, nextToken, closed (finished or error),
 *                                          turn, others (events but tokens), and the append ids
 *                                          that are remembered: slot:<n> -> id, id:<id> -> sequence
 *   longshadow:session:<id>:tokens         sorted set of the first positions that have token ids
 *   longshadow:session:<id>:tokens:<begin> token ids of one chunk
 *   longshadow:sessions                    set of the ids of sessions that have not ended
 *   longshadow:fleet                       set of member ids
 *   longshadow:fleet:<member>              string: member (JSON); lives 6 s
 *   longshadow:reservations:<store>        hash: session id -> `<bytes> <unix ms>`
 *   longshadow:kept:<store>                sorted set: id of a kept session by unix ms of its last use
 *   longshadow:prefix:<store>:<chain>      string: who offers the chunk (JSON); lives 1 h
 *   longshadow:shares:<worker>             hash: v (virtual time) and tenant:<digest> -> finish tag,
 *                                          in tokens; lives 1 h
 *   longshadow:share-call:<call>           string: the priority that the call was given; lives 1 min
 *
 * and the channels longshadow:events:<id> (a sequence: the session has news) and
 * longshadow:driver:<driver> (requests, JSON). Scripts touch several keys of a session, so Redis
 * Cluster is not supported.
 */

const PREFIX = 'longshadow:';

export const ACTIVE_SESSIONS_KEY = `${PREFIX}sessions`;
export const FLEET_KEY = `${PREFIX}fleet`;
export const FLEET_MEMBER_PREFIX = `${PREFIX}fleet:`;
export const SESSION_PREFIX = `${PREFIX}session:`;

export interface SessionKeys {
  readonly record: string;
  readonly lease: string;
  readonly clients: string;
  readonly events: string;
  readonly stream: string;
  readonly tokens: string;
  readonly channel: string;
}

/** @throws ServingError BAD_REQUEST before a key is made of anything but a session id */
export function sessionKeys(sessionId: string): SessionKeys {
  if (!SESSION_ID_PATTERN.test(sessionId)) {
    throw new ServingError('BAD_REQUEST', 'a session id is 32 lower-case hex digits', {
      fieldViolations: [{ field: 'session_id', description: 'must be 32 lower-case hex digits' }],
    });
  }
  const record = `${SESSION_PREFIX}${sessionId}`;
  return {
    record,
    lease: `${record}:lease`,
    clients: `${record}:clients`,
    events: `${record}:events`,
    stream: `${record}:stream`,
    tokens: `${record}:tokens`,
    channel: `${PREFIX}events:${sessionId}`,
  };
}

export function tokenIdsKey(keys: SessionKeys, beginToken: number): string {
  return `${keys.tokens}:${String(beginToken)}`;
}

const CHAIN_PATTERN = /^[0-9a-f]{64}$/;
const NAME_PATTERN = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/;

export function fleetMemberKey(memberId: string): string {
  return FLEET_MEMBER_PREFIX + checkedName('member id', memberId);
}

export function reservationsKey(storeId: string): string {
  return `${PREFIX}reservations:${checkedName('store id', storeId)}`;
}

export function keptKey(storeId: string): string {
  return `${PREFIX}kept:${checkedName('store id', storeId)}`;
}

/** @param chain 64 hex digits: see platform/prefix-chain.ts */
export function prefixKey(storeId: string, chain: string): string {
  if (!CHAIN_PATTERN.test(chain)) {
    throw new ServingError('BAD_REQUEST', 'a prefix chain is 64 lower-case hex digits');
  }
  return `${PREFIX}prefix:${checkedName('store id', storeId)}:${chain}`;
}

export function sharesKey(workerId: string): string {
  return `${PREFIX}shares:${checkedName('worker id', workerId)}`;
}

export function shareCallKey(callId: string): string {
  return `${PREFIX}share-call:${checkedName('call id', callId)}`;
}

/** A tenant's name is free text of any length: its digest stands for it. */
export function tenantField(tenant: string): string {
  return `tenant:${createHash('sha256').update(tenant).digest('hex').slice(0, 32)}`;
}

export function driverChannel(driverId: string): string {
  return `${PREFIX}driver:${checkedName('driver id', driverId)}`;
}

/** @throws ServingError BAD_REQUEST unless it is 1 to 128 letters, digits, ".", "_" or "-" */
export function checkedName(what: string, name: string): string {
  if (NAME_PATTERN.test(name)) return name;
  throw new ServingError(
    'BAD_REQUEST',
    `${what} "${name.slice(0, 128)}": want 1 to 128 letters, digits, ".", "_" or "-"`,
  );
}
