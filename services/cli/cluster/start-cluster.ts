import { resolve } from 'node:path';
import { redisOptions } from '../../platform/redis-url.js';
import {
  CLUSTER_ID_VARIABLE,
  createClusterDirectories,
  defaultStoreBase,
  removeClusterDirectories,
  type ClusterDirectories,
} from './cluster-directories.js';
import { Janitor } from './janitor.js';
import { startRedisChild, stopRedisChild, type RedisChild } from './redis-child.js';
import {
  startServiceChild,
  stopServiceChild,
  type ServiceChild,
  type ServiceRole,
} from './service-child.js';
import { serviceEnvironment } from './service-environment.js';

/** What a local cluster is made of. */
export interface ClusterOptions {
  readonly modelDirectory: string;
  readonly workers: number;
  /** host:port; port 0 for any. */
  readonly routerListen: string;
  /** Folder that holds the cluster's own value-store folder; null for the user's shared memory. */
  readonly storeBase: string | null;
  /** A Redis that runs; null to start one. */
  readonly redisUrl: string | null;
  /** Environment of the services; what the cluster decides overrides it. */
  readonly environment: NodeJS.ProcessEnv;
  /** Bound for each service to open its model and listen. */
  readonly readyWithinMs: number;
  readonly onLog: (role: ServiceRole, line: string) => void;
  /** Stops the start at once. */
  readonly signal?: AbortSignal;
}

export interface ClusterMember {
  readonly role: ServiceRole | 'redis';
  readonly pid: number;
  readonly address: string;
}

const STOP_GRACE_MS = 10_000;

/** REDIS_URL; null when it is unset or empty. @throws ServingError BAD_REQUEST if it is no such URL */
export function redisUrlOf(environment: NodeJS.ProcessEnv): string | null {
  const url = environment['REDIS_URL'];
  if (url === undefined || url === '') return null;
  redisOptions(url);
  return url;
}

/** A running local cluster. */
export class Cluster {
  readonly members: readonly ClusterMember[];
  readonly routerAddress: string;
  #stopping: Promise<void> | null = null;

  private constructor(
    readonly directories: ClusterDirectories,
    readonly redisUrl: string,
    private readonly redis: RedisChild | null,
    private readonly services: readonly ServiceChild[],
    private readonly janitor: Janitor,
  ) {
    this.members = [
      ...(redis === null
        ? []
        : [{ role: 'redis' as const, pid: redis.child.pid, address: redis.url }]),
      ...services.map(({ role, child, address }) => ({ role, pid: child.pid, address })),
    ];
    this.routerAddress = services.find(({ role }) => role === 'router')?.address ?? '';
  }

  /**
   * Starts everything and waits until it serves; on failure nothing is left.
   * @throws ServingError of what could not start; the signal's reason
   */
  static async start(options: ClusterOptions): Promise<Cluster> {
    const { signal } = options;
    const directories = createClusterDirectories(options.storeBase ?? defaultStoreBase());
    const common = { ...options.environment, [CLUSTER_ID_VARIABLE]: directories.clusterId };
    const janitor = await Janitor.start(directories, common);
    let redis: RedisChild | null = null;
    const services: ServiceChild[] = [];
    try {
      if (options.redisUrl === null) {
        redis = await startRedisChild(directories.temporary, common, signal);
        janitor.waitFor(redis.child.pid);
      }
      const redisUrl = options.redisUrl ?? redis?.url ?? '';
      const start = async (role: ServiceRole, listen: string): Promise<void> => {
        const environment = serviceEnvironment(role, {
          inherited: common,
          listen,
          redisUrl,
          modelDirectory: resolve(options.modelDirectory),
          storeDirectory: directories.store,
        });
        const { readyWithinMs, onLog } = options;
        const onSpawn = (pid: number): void => {
          janitor.waitFor(pid);
        };
        const more = signal === undefined ? { onSpawn } : { signal, onSpawn };
        services.push(await startServiceChild(role, environment, readyWithinMs, onLog, more));
      };
      const engines = Array.from({ length: options.workers }, () => start('worker', ANY_PORT));
      await allOrFirstError([...engines, start('decode', ANY_PORT)]);
      await start('router', options.routerListen);
      return new Cluster(directories, redisUrl, redis, services, janitor);
    } catch (error) {
      await stopAll(directories, redis, services, janitor);
      throw error;
    }
  }

  /** Settles with the first member that ends on its own, and its last lines. */
  async unexpectedEnd(): Promise<string> {
    const children = [
      ...this.services.map(({ child }) => child),
      ...(this.redis === null ? [] : [this.redis.child]),
    ];
    return Promise.race(
      children.map(async (child) => {
        const { code, signal } = await child.exited;
        if (this.#stopping !== null) await new Promise<never>(() => undefined);
        const how = signal === null ? `with code ${String(code)}` : `by ${signal}`;
        return `the ${child.name} (pid ${String(child.pid)}) ended ${how}; it wrote:\n${child.lastLines().join('\n')}`;
      }),
    );
  }

  /** Ends every process in order and removes the cluster's folders. Idempotent. */
  async stop(): Promise<void> {
    this.#stopping ??= stopAll(this.directories, this.redis, this.services, this.janitor);
    await this.#stopping;
  }
}

const ANY_PORT = '127.0.0.1:0';

/** Waits for all, so that nothing starts behind the clean-up; then throws the first error. */
async function allOrFirstError(starts: readonly Promise<void>[]): Promise<void> {
  const outcomes = await Promise.allSettled(starts);
  for (const outcome of outcomes) {
    if (outcome.status === 'rejected') throw outcome.reason as Error;
  }
}

/** Router first (no new sessions), then decodes and workers, Redis last. */
async function stopAll(
  directories: ClusterDirectories,
  redis: RedisChild | null,
  services: readonly ServiceChild[],
  janitor: Janitor,
): Promise<void> {
  for (const role of ['router', 'decode', 'worker'] as const) {
    const ofRole = services.filter((service) => service.role === role);
    await Promise.all(ofRole.map((service) => stopServiceChild(service, STOP_GRACE_MS)));
  }
  if (redis !== null) await stopRedisChild(redis);
  removeClusterDirectories(directories);
  await janitor.finish();
}
