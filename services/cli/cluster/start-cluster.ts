import { join, resolve } from 'node:path';
import type { TlsFiles } from '../../platform/config/common-settings.js';
import { redisOptions } from '../../platform/redis-url.js';
import type { ChildExit } from './child-process.js';
import {
  CLUSTER_ID_VARIABLE,
  createClusterDirectories,
  defaultStoreBase,
  removeClusterDirectories,
  type ClusterDirectories,
} from './cluster-directories.js';
import { Janitor } from './janitor.js';
import { Member, type MemberReports, type MemberRole } from './member.js';
import { redisPlan, servicePlan } from './member-plans.js';
import type { ServiceRole } from './service-child.js';
import {
  type ClusterCertificates,
  tlsEnvironment,
  writeClusterCertificates,
} from './throwaway-ca.js';

/** What a local cluster is made of. */
export interface ClusterOptions {
  readonly modelDirectory: string;
  /** Pattern file of the model; default: minference.json in its folder, if it is there. */
  readonly patternsFile?: string;
  readonly workers: number;
  /** Default: 1. */
  readonly routers?: number;
  /** Default: 1. */
  readonly decodes?: number;
  /** host:port of the first router, the next ones on the ports after it; port 0 for any. */
  readonly routerListen: string;
  /** Folder that holds the cluster's own value-store folder; null for the user's shared memory. */
  readonly storeBase: string | null;
  /** A Redis that runs; null to start one. */
  readonly redisUrl: string | null;
  /** Environment of the services; what the cluster decides overrides it. */
  readonly environment: NodeJS.ProcessEnv;
  /** More of it for one member; over all else. */
  readonly memberEnvironment?: (role: ServiceRole, index: number) => NodeJS.ProcessEnv;
  /** Mutual TLS with certificates made for this cluster alone, which end with it. */
  readonly tls?: boolean;
  /** Bound for each service to open its model and listen. */
  readonly readyWithinMs: number;
  readonly onLog: (role: ServiceRole, line: string) => void;
  /** Starts a member that dies again, and hears what happens; default: members that die stay dead. */
  readonly onRestart?: (line: string) => void;
  /** Stops the start at once. */
  readonly signal?: AbortSignal;
}

export interface ClusterMember {
  readonly role: MemberRole;
  /** Of workers and decodes: their id in the fleet. */
  readonly name: string;
  /** Of its process now, or of the last one. */
  readonly pid: number;
  readonly running: boolean;
  readonly address: string;
}

const STOP_GRACE_MS = 10_000;
/** A member that is restarted may first finish its chunk, or hand its sessions over. */
const RESTART_GRACE_MS = 60_000;
/** New sessions end first, and Redis outlives all that use it. */
const STOP_ORDER = ['router', 'decode', 'worker', 'redis'] as const satisfies MemberRole[];

/** REDIS_URL; null when it is unset or empty. @throws ServingError BAD_REQUEST if it is no such URL */
export function redisUrlOf(environment: NodeJS.ProcessEnv): string | null {
  const url = environment['REDIS_URL'];
  if (url === undefined || url === '') return null;
  redisOptions(url);
  return url;
}

/** A running local cluster. */
export class Cluster {
  readonly #members: Record<MemberRole, Member[]> = {
    redis: [],
    worker: [],
    decode: [],
    router: [],
  };
  readonly #failure: Promise<string>;
  readonly #reports: MemberReports;
  #certificates: ClusterCertificates | null = null;
  #stopping: Promise<void> | null = null;

  private constructor(
    private readonly options: ClusterOptions,
    readonly directories: ClusterDirectories,
    private readonly janitor: Janitor,
  ) {
    let failed: (why: string) => void = () => undefined;
    this.#failure = new Promise((settle) => {
      failed = settle;
    });
    this.#reports = { say: (line) => options.onRestart?.(line), failed };
  }

  /**
   * Starts everything and waits until it serves; on failure nothing is left.
   * @throws ServingError of what could not start; the signal's reason
   */
  static async start(options: ClusterOptions): Promise<Cluster> {
    const directories = createClusterDirectories(options.storeBase ?? defaultStoreBase());
    const environment = withClusterId(options.environment, directories);
    const janitor = await Janitor.start(directories, environment);
    const cluster = new Cluster(options, directories, janitor);
    try {
      await cluster.#startAll(environment);
      return cluster;
    } catch (error) {
      await cluster.stop();
      throw error;
    }
  }

  /** Its members as they are now: Redis if it is the cluster's own, workers, decodes, routers. */
  get members(): readonly ClusterMember[] {
    return this.#all().map(({ role, name, pid, running, address }) => ({
      ...{ role, name, pid, running, address },
    }));
  }

  get redisUrl(): string {
    return this.options.redisUrl ?? this.member('redis', 0).address;
  }

  /** Of the first router. */
  get routerAddress(): string {
    return this.member('router', 0).address;
  }

  /** What a client shows and trusts, if the cluster has certificates of its own. */
  get clientTls(): TlsFiles | null {
    return this.#certificates?.client ?? null;
  }

  get routerAddresses(): readonly string[] {
    return this.#members.router.map(({ address }) => address);
  }

  /** @throws Error if the cluster has no such member */
  member(role: MemberRole, index: number): Member {
    const member = this.#members[role][index];
    if (member === undefined) throw new Error(`the cluster has no ${role} ${String(index)}`);
    return member;
  }

  /** Kills a member as an outsider would, and waits for the process's end. */
  async kill(
    role: MemberRole,
    index: number,
    signal: 'SIGKILL' | 'SIGTERM' = 'SIGKILL',
  ): Promise<ChildExit> {
    return this.member(role, index).kill(signal);
  }

  /** Ends a member in order if it runs, starts it under the same name, and waits until it serves. */
  async restart(role: MemberRole, index: number): Promise<void> {
    await this.member(role, index).restart(RESTART_GRACE_MS);
  }

  /** Restarts workers, decodes and routers one after another, each when the one before it serves. */
  async rollingRestart(): Promise<void> {
    for (const role of ['worker', 'decode', 'router'] as const) {
      for (const member of this.#members[role]) await member.restart(RESTART_GRACE_MS);
    }
  }

  /** Settles with what happened when a member has ended and nobody starts it again. */
  async unexpectedEnd(): Promise<string> {
    return this.#failure;
  }

  /** Ends every process in order and removes the cluster's folders. Idempotent. */
  async stop(): Promise<void> {
    this.#stopping ??= this.#stopAll();
    await this.#stopping;
  }

  async #startAll(environment: NodeJS.ProcessEnv): Promise<void> {
    const { options, directories, janitor } = this;
    const onSpawn = (pid: number): void => {
      janitor.waitFor(pid);
    };
    if (options.tls === true) {
      this.#certificates = await writeClusterCertificates(join(directories.temporary, 'tls'));
    }
    if (options.redisUrl === null) {
      await this.#start(redisPlan(directories.temporary, environment, onSpawn));
    }
    const place = {
      inherited: environment,
      redisUrl: this.redisUrl,
      modelDirectory: resolve(options.modelDirectory),
      storeDirectory: directories.store,
      patternsFile: options.patternsFile === undefined ? null : resolve(options.patternsFile),
    };
    const { readyWithinMs, onLog, routerListen, memberEnvironment } = options;
    // Members of several clusters on one Redis need different names.
    const suffix = options.redisUrl === null ? '' : `-${directories.clusterId}`;
    const start = async (role: ServiceRole, index: number): Promise<void> => {
      const name = `${role}-${String(index)}${suffix}`;
      const listen = role === 'router' ? portAfter(routerListen, index) : ANY_PORT;
      const tls = this.#certificates === null ? {} : tlsEnvironment(this.#certificates[role]);
      const more = { ...tls, ...memberEnvironment?.(role, index) };
      const start = { role, name, listen, place, more, readyWithinMs, onLog, onSpawn };
      await this.#start(servicePlan(start));
    };
    const several = (role: ServiceRole, count: number): Promise<void>[] =>
      Array.from({ length: count }, async (_, index) => start(role, index));
    await allOrFirstError([
      ...several('worker', options.workers),
      ...several('decode', options.decodes ?? 1),
    ]);
    await allOrFirstError(several('router', options.routers ?? 1));
  }

  async #start(plan: ConstructorParameters<typeof Member>[0]): Promise<void> {
    const { onRestart, signal } = this.options;
    const member = new Member(plan, onRestart !== undefined, this.#reports);
    this.#members[plan.role].push(member);
    await member.start(signal);
  }

  #all(): readonly Member[] {
    const { redis, worker, decode, router } = this.#members;
    return [...redis, ...worker, ...decode, ...router];
  }

  async #stopAll(): Promise<void> {
    for (const role of STOP_ORDER) {
      await Promise.all(this.#members[role].map((member) => member.stop(STOP_GRACE_MS)));
    }
    removeClusterDirectories(this.directories);
    await this.janitor.finish();
  }
}

const ANY_PORT = '127.0.0.1:0';

/** The address `index` ports after this one; port 0 stays 0. */
function portAfter(address: string, index: number): string {
  const at = address.lastIndexOf(':') + 1;
  const port = Number(address.slice(at));
  return port === 0 ? address : `${address.slice(0, at)}${String(port + index)}`;
}

function withClusterId(
  environment: NodeJS.ProcessEnv,
  { clusterId }: ClusterDirectories,
): NodeJS.ProcessEnv {
  return { ...environment, [CLUSTER_ID_VARIABLE]: clusterId };
}

/** Waits for all, so that nothing starts behind the clean-up; then throws the first error. */
async function allOrFirstError(starts: readonly Promise<void>[]): Promise<void> {
  const outcomes = await Promise.allSettled(starts);
  for (const outcome of outcomes) {
    if (outcome.status === 'rejected') throw outcome.reason as Error;
  }
}
