import type { Redis } from 'ioredis';
import { ServingError } from '../../domain/serving-error.js';
import type { PrefixIndex } from '../../domain/session-store.js';
import type { Log } from '../log.js';
import { prefixKey, SESSION_PREFIX, sessionKeys } from './keys.js';
import { answered, runScript } from './redis-connection.js';
import { readDonor } from './schemas.js';

/** An offer that is not repeated within this time is forgotten. */
export const PREFIX_LIFE_MS = 3_600_000;

/** Offers of chunks that another session may link, on Redis. */
export function makePrefixIndex(redis: Redis, log: Log): PrefixIndex {
  return {
    publish: async (storeId, chunks) => {
      const offers = chunks.map(({ chain, donor }) => {
        sessionKeys(donor.sessionId); // refuses what is no session id
        return { key: prefixKey(storeId, chain), json: JSON.stringify(donor) };
      });
      await Promise.all(
        offers.map(({ key, json }) => answered(redis.set(key, json, 'PX', PREFIX_LIFE_MS))),
      );
    },

    find: async (storeId, chain) => {
      const json = await runScript(redis, 'findPrefix', prefixKey(storeId, chain), SESSION_PREFIX);
      if (typeof json !== 'string') return null;
      try {
        return readDonor(json);
      } catch (error) {
        // A prompt that cannot use an offer is prefilled as if there were none.
        if (!(error instanceof ServingError)) throw error;
        log.warn({ err: error }, 'an offered prefix is not readable; is it of another version?');
        return null;
      }
    },

    withdraw: async (storeId, sessionId, chains) => {
      sessionKeys(sessionId); // refuses what is no session id
      const keys = chains.map((chain) => prefixKey(storeId, chain));
      if (keys.length === 0) return;
      await runScript(redis, 'withdrawPrefixes', keys.length, ...keys, sessionId);
    },
  };
}
