import type { Redis } from 'ioredis';
import { ServingError } from '../../domain/serving-error.js';
import type { DriverRequest, DriverRequests } from '../../domain/session-store.js';
import type { Log } from '../log.js';
import { driverChannel, sessionKeys } from './keys.js';
import { answered } from './redis-connection.js';
import { readDriverRequest } from './schemas.js';
import type { Subscriptions } from './subscriptions.js';

/** Requests between routers by publish-subscribe: a channel for every driver. */
export function makeDriverRequests(
  redis: Redis,
  subscriptions: Subscriptions,
  log: Log,
): DriverRequests {
  return {
    send: async (driverId, request) => {
      sessionKeys(request.sessionId); // refuses what is no session id
      const received = await answered(
        redis.publish(driverChannel(driverId), JSON.stringify(request)),
      );
      return received > 0;
    },

    listen: (driverId, onRequest) =>
      subscriptions.listen(driverChannel(driverId), {
        onMessage: (json) => {
          const request = readable(json, log);
          if (request !== null) onRequest(request);
        },
      }),
  };
}

/** A request of another version must not end the driver. */
function readable(json: string, log: Log): DriverRequest | null {
  try {
    return readDriverRequest(json);
  } catch (error) {
    if (!(error instanceof ServingError)) throw error;
    log.warn({ err: error }, 'a request to this driver is not readable; is it of another version?');
    return null;
  }
}
