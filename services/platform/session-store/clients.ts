import type { Redis } from 'ioredis';
import type { Clients } from '../../domain/session-store.js';
import { checkedName, sessionKeys } from './keys.js';
import { answered, runScript } from './redis-connection.js';

/** A router that does not say again within this time that it relays, no longer does. */
export const CLIENT_LIFE_MS = 6_000;

/** Who relays a session's events, on Redis. */
export function makeClients(redis: Redis): Clients {
  return {
    attach: async (sessionId, routerId) => {
      const { clients } = sessionKeys(sessionId);
      const router = checkedName('router id', routerId);
      await runScript(redis, 'attachClient', clients, router, CLIENT_LIFE_MS);
    },

    detach: async (sessionId, routerId) => {
      const { clients } = sessionKeys(sessionId);
      await answered(redis.zrem(clients, checkedName('router id', routerId)));
    },

    isAttached: async (sessionId) =>
      Number(await runScript(redis, 'attachedClients', sessionKeys(sessionId).clients)) > 0,
  };
}
