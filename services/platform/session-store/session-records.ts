import type { Redis } from 'ioredis';
import { ServingError } from '../../domain/serving-error.js';
import {
  ENDED_STATES,
  SESSION_SCHEMA_VERSION,
  type SessionRecord,
} from '../../domain/session-record.js';
import type { LeaseAnswer, SessionRecords } from '../../domain/session-store.js';
import { ACTIVE_SESSIONS_KEY, checkedName, SESSION_PREFIX, sessionKeys } from './keys.js';
import { answered, runScript } from './redis-connection.js';
import { readRecord } from './schemas.js';
import { LEASE_MS, TOKEN_IDS_MS } from './scripts/record-scripts.js';
import { ENDED_MS } from './scripts/script.js';

/** Session records and leases on Redis. */
export function makeSessionRecords(redis: Redis): SessionRecords {
  return {
    create: async (record, driverId) => create(redis, record, driverId),

    load: async (sessionId) => {
      const json = await answered(redis.hget(sessionKeys(sessionId).record, 'record'));
      return json === null ? null : readRecord(json);
    },

    compareAndSet: async (record, next, driverId) => compareAndSet(redis, record, next, driverId),

    takeLease: async (sessionId, driverId) => {
      const keys = sessionKeys(sessionId);
      const answer = await runScript(
        redis,
        'takeLease',
        ...[keys.lease, keys.record, keys.tokens],
        ...[checkedName('driver id', driverId), LEASE_MS, TOKEN_IDS_MS],
      );
      return toLeaseAnswer(answer);
    },

    dropLease: async (sessionId, driverId) => {
      await runScript(redis, 'dropLease', sessionKeys(sessionId).lease, driverId);
    },

    leaseHolder: async (sessionId) => answered(redis.get(sessionKeys(sessionId).lease)),

    undrivenSessionIds: async () => {
      const found = await runScript(
        redis,
        'undrivenSessions',
        ...[ACTIVE_SESSIONS_KEY, SESSION_PREFIX],
      );
      return found as string[];
    },

    activeSessionIds: async () => answered(redis.smembers(ACTIVE_SESSIONS_KEY)),

    expireEnded: async (sessionId) => {
      const keys = sessionKeys(sessionId);
      await runScript(
        redis,
        'expireEndedSession',
        ...[keys.record, keys.stream, keys.events, keys.tokens, ACTIVE_SESSIONS_KEY],
        ...[sessionId, ENDED_MS],
      );
    },
  };
}

async function create(
  redis: Redis,
  record: Parameters<SessionRecords['create']>[0],
  driverId: string,
): Promise<void> {
  const keys = sessionKeys(record.sessionId);
  const stored = { ...record, schemaVersion: SESSION_SCHEMA_VERSION, revision: 1 };
  const created = await runScript(
    redis,
    'createSession',
    ...[keys.record, keys.lease, ACTIVE_SESSIONS_KEY],
    ...[JSON.stringify(stored), record.epoch, record.attempt, endedFlag(record)],
    ...[checkedName('driver id', driverId), LEASE_MS, record.sessionId],
  );
  if (created === 1) return;
  throw new ServingError('SESSION_BUSY', `session ${record.sessionId} exists already`);
}

async function compareAndSet(
  redis: Redis,
  record: SessionRecord,
  next: Parameters<SessionRecords['compareAndSet']>[1],
  driverId: string,
): Promise<SessionRecord | null> {
  const { sessionId, revision } = record;
  const keys = sessionKeys(sessionId);
  const stored: SessionRecord = {
    ...next,
    schemaVersion: SESSION_SCHEMA_VERSION,
    sessionId,
    revision: revision + 1,
  };
  const done = await runScript(
    redis,
    'compareAndSetSession',
    ...[keys.record, keys.stream, keys.events, keys.tokens, keys.lease, ACTIVE_SESSIONS_KEY],
    ...[JSON.stringify(stored), revision, revision + 1, stored.epoch, stored.attempt],
    ...[endedFlag(stored), driverId, sessionId, ENDED_MS],
  );
  return done === 1 ? stored : null;
}

function endedFlag(record: Pick<SessionRecord, 'state'>): '0' | '1' {
  return ENDED_STATES.has(record.state) ? '1' : '0';
}

function toLeaseAnswer(reply: unknown): LeaseAnswer {
  switch (reply) {
    case 'held':
    case 'elsewhere':
    case 'gone':
      return reply;
    default:
      throw new Error(`takeLease answered ${String(reply)}`);
  }
}
