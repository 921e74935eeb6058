import type { Redis } from 'ioredis';
import type { SessionStore } from '../../domain/session-store.js';
import type { Log } from '../log.js';
import { makeClients } from './clients.js';
import { makeDriverRequests } from './driver-requests.js';
import { makeFairShares } from './fair-shares.js';
import { makeFleet } from './fleet.js';
import { makeKeptSessions } from './kept-sessions.js';
import { makePrefixIndex } from './prefix-index.js';
import {
  DEFAULT_CONNECTION_LIMITS,
  openConnection,
  type ConnectionLimits,
} from './redis-connection.js';
import { makeReservations } from './reservations.js';
import { makeSessionEvents } from './session-events.js';
import { makeSessionRecords } from './session-records.js';
import { makeSubscriptions } from './subscriptions.js';
import { makeTokenIdStore } from './token-ids.js';
import { makeWakeUps } from './wake-ups.js';

export interface OpenSessionStore extends SessionStore {
  /** Ends both connections; followers must have been aborted before. */
  close(): Promise<void>;
}

/**
 * Opens the cluster's memory on Redis: one connection for commands and one for messages. Returns
 * once both answer.
 *
 * @param url see redisOptions()
 * @throws ServingError REDIS_UNAVAILABLE when Redis does not answer within 10 s, BAD_REQUEST on a
 *   bad URL or a Redis before 6.2
 */
export async function openSessionStore(
  url: string,
  log: Log,
  limits: ConnectionLimits = DEFAULT_CONNECTION_LIMITS,
): Promise<OpenSessionStore> {
  const redis = await openConnection(url, log, limits);
  let subscriber: Redis;
  try {
    subscriber = await openConnection(url, log, limits);
  } catch (error) {
    redis.disconnect();
    throw error;
  }
  const subscriptions = makeSubscriptions(subscriber, log);
  return {
    records: makeSessionRecords(redis),
    events: makeSessionEvents(redis, makeWakeUps(subscriptions)),
    tokenIds: makeTokenIdStore(redis),
    fleet: makeFleet(redis, log),
    reservations: makeReservations(redis),
    clients: makeClients(redis),
    driverRequests: makeDriverRequests(redis, subscriptions, log),
    kept: makeKeptSessions(redis),
    prefixes: makePrefixIndex(redis, log),
    fairShares: makeFairShares(redis),
    close: async () => {
      await Promise.allSettled([redis.quit(), subscriber.quit()]);
      redis.disconnect();
      subscriber.disconnect();
    },
  };
}
