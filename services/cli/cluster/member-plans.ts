import type { MemberPlan } from './member.js';
import { startRedisChild, stopRedisChild } from './redis-child.js';
import { startServiceChild, stopServiceChild, type ServiceRole } from './service-child.js';
import { serviceEnvironment, type ServicePlace } from './service-environment.js';

/** A Redis of the cluster's own, on a socket in `directory`. It comes back empty. */
export function redisPlan(
  directory: string,
  environment: NodeJS.ProcessEnv,
  onSpawn: (pid: number) => void,
): MemberPlan {
  return {
    role: 'redis',
    name: 'redis',
    launch: async (_lastAddress, signal) => {
      const { child, url } = await startRedisChild(directory, environment, signal);
      onSpawn(child.pid);
      return { child, address: url };
    },
    end: ({ child, address }) => stopRedisChild({ child, url: address }),
  };
}

export interface ServiceMember {
  readonly role: ServiceRole;
  readonly name: string;
  /** host:port of the first start. */
  readonly listen: string;
  readonly place: Omit<ServicePlace, 'name' | 'listen'>;
  /** Environment of this member alone. */
  readonly more: NodeJS.ProcessEnv;
  readonly readyWithinMs: number;
  readonly onLog: (role: ServiceRole, line: string) => void;
  readonly onSpawn: (pid: number) => void;
}

/** A service. A router comes back at its address, which clients know; others announce theirs. */
export function servicePlan(member: ServiceMember): MemberPlan {
  const { role, name, place, more, readyWithinMs, onLog, onSpawn } = member;
  return {
    role,
    name,
    launch: async (lastAddress, signal) => {
      const listen = role === 'router' ? (lastAddress ?? member.listen) : member.listen;
      const environment = { ...serviceEnvironment(role, { ...place, name, listen }), ...more };
      return startServiceChild(role, environment, readyWithinMs, onLog, { signal, onSpawn });
    },
    end: (process, graceMs) => stopServiceChild({ role, ...process }, graceMs),
  };
}
