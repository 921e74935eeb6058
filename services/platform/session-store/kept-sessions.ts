import type { Redis } from 'ioredis';
import { ServingError } from '../../domain/serving-error.js';
import type { KeptSessions } from '../../domain/session-store.js';
import { keptKey, SESSION_PREFIX, sessionKeys } from './keys.js';
import { answered, runScript } from './redis-connection.js';

/** Kept sessions by their last use, on Redis. */
export function makeKeptSessions(redis: Redis): KeptSessions {
  return {
    touch: async (storeId, sessionId, usedUnixMs) => {
      sessionKeys(sessionId); // refuses what is no session id
      if (!Number.isFinite(usedUnixMs)) {
        throw new ServingError('BAD_REQUEST', `${String(usedUnixMs)} is no time in Unix ms`);
      }
      // GT: a touch that arrives late does not make the session older.
      await answered(redis.zadd(keptKey(storeId), 'GT', usedUnixMs, sessionId));
    },

    remove: async (storeId, sessionId) => {
      await answered(redis.zrem(keptKey(storeId), sessionId));
    },

    leastRecentlyUsed: async (storeId, limit) => {
      const args = [keptKey(storeId), SESSION_PREFIX, limit];
      return (await runScript(redis, 'leastRecentlyUsed', ...args)) as string[];
    },
  };
}
