import type { Redis } from 'ioredis';
import type { FleetMember } from '../../domain/fleet.js';
import type { Fleet } from '../../domain/session-store.js';
import type { Log } from '../log.js';
import { FLEET_KEY, FLEET_MEMBER_PREFIX, fleetMemberKey } from './keys.js';
import { answered, runScript } from './redis-connection.js';
import { readMember } from './schemas.js';

/** A member that does not announce itself within this time is gone. */
export const HEARTBEAT_LIFE_MS = 6_000;

/** Heartbeats on Redis. */
export function makeFleet(redis: Redis, log: Log): Fleet {
  return {
    announce: async (member) => {
      const key = fleetMemberKey(member.memberId);
      const json = JSON.stringify(member);
      await answered(redis.set(key, json, 'PX', HEARTBEAT_LIFE_MS));
      await answered(redis.sadd(FLEET_KEY, member.memberId));
    },

    withdraw: async (memberId) => {
      await answered(redis.del(fleetMemberKey(memberId)));
      await answered(redis.srem(FLEET_KEY, memberId));
    },

    members: async () => {
      const found = await runScript(redis, 'fleetMembers', FLEET_KEY, FLEET_MEMBER_PREFIX);
      return (found as string[])
        .flatMap((json) => readable(json, log))
        .sort((a, b) => (a.memberId < b.memberId ? -1 : 1));
    },
  };
}

/** A member of another version must not hide the others. */
function readable(json: string, log: Log): FleetMember[] {
  try {
    return [readMember(json)];
  } catch (error) {
    log.warn({ err: error }, 'a fleet member is not readable; is it of another version?');
    return [];
  }
}
