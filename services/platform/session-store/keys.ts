import { ServingError } from '../../domain/serving-error.js';
import { SESSION_ID_PATTERN } from '../../domain/session-record.js';

/*
 * Every key of the cluster's memory.
 *
 *   longshadow:session:<id>                hash: record (JSON), revision, epoch, ended (0 or 1)
 *   longshadow:session:<id>:lease          string: driver id; lives 6 s
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
 *
 * and the channel longshadow:events:<id>. Scripts touch several keys of a session, so Redis Cluster
 * is not supported.
 */

const PREFIX = 'longshadow:';

export const ACTIVE_SESSIONS_KEY = `${PREFIX}sessions`;
export const FLEET_KEY = `${PREFIX}fleet`;
export const FLEET_MEMBER_PREFIX = `${PREFIX}fleet:`;
export const SESSION_PREFIX = `${PREFIX}session:`;

export interface SessionKeys {
  readonly record: string;
  readonly lease: string;
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
    events: `${record}:events`,
    stream: `${record}:stream`,
    tokens: `${record}:tokens`,
    channel: `${PREFIX}events:${sessionId}`,
  };
}

export function tokenIdsKey(keys: SessionKeys, beginToken: number): string {
  return `${keys.tokens}:${String(beginToken)}`;
}

const NAME_PATTERN = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/;

export function fleetMemberKey(memberId: string): string {
  return FLEET_MEMBER_PREFIX + checkedName('member id', memberId);
}

export function reservationsKey(storeId: string): string {
  return `${PREFIX}reservations:${checkedName('store id', storeId)}`;
}

function checkedName(what: string, name: string): string {
  if (NAME_PATTERN.test(name)) return name;
  throw new ServingError(
    'BAD_REQUEST',
    `${what} "${name.slice(0, 128)}": want 1 to 128 letters, digits, ".", "_" or "-"`,
  );
}
