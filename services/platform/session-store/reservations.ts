import type { Redis } from 'ioredis';
import { ServingError } from '../../domain/serving-error.js';
import type { Reservations } from '../../domain/session-store.js';
import { reservationsKey, SESSION_PREFIX, sessionKeys } from './keys.js';
import { answered, runScript } from './redis-connection.js';

/** A reservation may be older than its session's record by so much. */
const ADMISSION_MS = 60_000;

/** Promised host memory on Redis. */
export function makeReservations(redis: Redis): Reservations {
  return {
    reserve: async (storeId, sessionId, bytes, capacityBytes) => {
      sessionKeys(sessionId); // refuses what is no session id
      if (!Number.isSafeInteger(bytes) || bytes < 0) {
        throw new ServingError('BAD_REQUEST', `cannot reserve ${String(bytes)} bytes`);
      }
      const key = reservationsKey(storeId);
      const args = [sessionId, bytes, Math.floor(capacityBytes), SESSION_PREFIX, ADMISSION_MS];
      return (await runScript(redis, 'reserveBytes', key, ...args)) === 1;
    },

    release: async (storeId, sessionId) => {
      await answered(redis.hdel(reservationsKey(storeId), sessionId));
    },

    reservedBytes: async (storeId) =>
      Number(
        await runScript(
          redis,
          'reservedBytes',
          reservationsKey(storeId),
          SESSION_PREFIX,
          ADMISSION_MS,
        ),
      ),
  };
}
