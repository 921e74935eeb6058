import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { DecodeServiceClient } from '../../proto/gen/longshadow/decode/v1/DecodeService.js';
import type { GenerateHeader } from '../../proto/gen/longshadow/router/v1/GenerateHeader.js';
import type { GetStatusResponse__Output } from '../../proto/gen/longshadow/router/v1/GetStatusResponse.js';
import type { RouterServiceClient } from '../../proto/gen/longshadow/router/v1/RouterService.js';
import type { WorkerServiceClient } from '../../proto/gen/longshadow/worker/v1/WorkerService.js';
import { processesOfCluster } from '../../services/cli/cluster/cluster-directories.js';
import { Cluster, type ClusterOptions } from '../../services/cli/cluster/start-cluster.js';
import type { SessionRecord } from '../../services/domain/session-record.js';
import { makeLog } from '../../services/platform/log.js';
import { makeClient, unaryCall } from '../../services/platform/rpc/client.js';
import {
  openSessionStore,
  type OpenSessionStore,
} from '../../services/platform/session-store/open-session-store.js';
import assert from './assert.js';
import { NEEDLE_MODEL } from './cluster.js';
import { FaultCall, type CallOptions, type FaultAnswer } from './fault-call.js';
import { FaultRedis } from './fault-redis.js';
import { poll } from './poll.js';

const CALL_MS = 10_000;
/** Set to see what the services log. */
const SHOWS_LOG = (process.env['LONGSHADOW_FAULT_LOG'] ?? '') !== '';

export interface FaultClusterOptions extends Partial<
  Pick<ClusterOptions, 'routers' | 'workers' | 'decodes' | 'memberEnvironment' | 'onRestart'>
> {
  readonly environment?: NodeJS.ProcessEnv;
  /** Redis writes an append-only file and reads it at its next start. */
  readonly redisKeepsData?: boolean;
  /** Folder of the value store; default: one in shared memory that is removed at the end. */
  readonly storeBase?: string;
}

/** A real cluster on a Redis of the test's own, in which whatever dies stays dead until told. */
export class FaultCluster {
  readonly #clients = new Map<string, RouterServiceClient>();
  readonly #references = new Map<string, Promise<FaultAnswer>>();
  /** Clients of engines by address; each connects at its first call. */
  readonly #engines = new Map<
    string,
    { worker: WorkerServiceClient; decode: DecodeServiceClient }
  >();
  #calls: FaultCall[] = [];

  private constructor(
    readonly cluster: Cluster,
    readonly redis: FaultRedis,
    /** The cluster's memory, as the services see it. */
    readonly store: OpenSessionStore,
    readonly logs: readonly string[],
    /** The value store's folder where it is the test's own, to be removed at the end. */
    private readonly ownBase: string | null,
  ) {}

  static async start(options: FaultClusterOptions = {}): Promise<FaultCluster> {
    const { environment, redisKeepsData, storeBase, ...counts } = options;
    const ownBase = storeBase === undefined ? mkdtempSync('/dev/shm/longshadow-test-') : null;
    const redis = await FaultRedis.start({ keepsData: redisKeepsData ?? false });
    const logs: string[] = [];
    try {
      const cluster = await Cluster.start({
        ...{ modelDirectory: NEEDLE_MODEL, workers: 1, ...counts },
        routerListen: '127.0.0.1:0',
        storeBase: storeBase ?? ownBase,
        redisUrl: redis.url,
        environment: { ...process.env, LONGSHADOW_LOG_LEVEL: 'warn', ...environment },
        readyWithinMs: 120_000,
        onLog: (role, line) => {
          logs.push(`${role}: ${line}`);
          if (SHOWS_LOG) console.error(`${role}: ${line}`);
        },
      });
      const store = await openSessionStore(redis.url, makeLog('test', 'silent'));
      return new FaultCluster(cluster, redis, store, logs, ownBase);
    } catch (error) {
      await redis.stop();
      if (ownBase !== null) rmSync(ownBase, { recursive: true, force: true });
      throw error;
    }
  }

  client(router = 0): RouterServiceClient {
    const address = this.cluster.routerAddresses[router];
    if (address === undefined) throw new Error(`there is no router ${router}`);
    const known = this.#clients.get(address) ?? makeClient('router', address, null);
    this.#clients.set(address, known);
    return known;
  }

  /** Starts a turn; its answer ignores the end of the text unless the header says otherwise. */
  call(header: GenerateHeader, ids: readonly number[], options?: CallOptions): FaultCall {
    const routers = (): RouterServiceClient[] =>
      this.cluster.routerAddresses.map((_, index) => this.client(index));
    const call = new FaultCall(routers, { ignoreEos: true, ...header }, ids, options);
    this.#calls.push(call);
    return call;
  }

  /** The answer of a request that nothing disturbs; each is run once. */
  undisturbed(header: GenerateHeader, ids: readonly number[]): Promise<FaultAnswer> {
    const key = JSON.stringify([header, ids]);
    const known = this.#references.get(key) ?? this.call(header, ids).answer;
    this.#references.set(key, known);
    return known;
  }

  async status(router = 0): Promise<GetStatusResponse__Output> {
    return unaryCall(this.client(router), 'getStatus', {}, { timeoutMs: CALL_MS });
  }

  /** @throws Error if Redis does not know the session */
  async record(sessionId: string): Promise<SessionRecord> {
    const record = await this.store.records.load(sessionId);
    if (record === null) throw new Error(`Redis has no record of ${sessionId}`);
    return record;
  }

  /** Waits until the session is where the test wants it. */
  async recordWhere(
    sessionId: string,
    wanted: (record: SessionRecord) => boolean,
    withinMs = 30_000,
  ): Promise<SessionRecord> {
    return poll(() => this.record(sessionId), wanted, withinMs, 2);
  }

  /** Index of the worker that runs the session's chunks. */
  async workerOf(sessionId: string): Promise<number> {
    return indexOf((await this.record(sessionId)).lane[0] ?? '');
  }

  /** Index of the decode that has the session. */
  async decodeOf(sessionId: string): Promise<number> {
    return indexOf((await this.record(sessionId)).decodeId ?? '');
  }

  /** Stops a process where it is (SIGSTOP), or lets it go on. */
  pause(role: 'worker' | 'decode' | 'router', index: number): void {
    this.cluster.member(role, index).signal('SIGSTOP');
  }

  goOn(role: 'worker' | 'decode' | 'router', index: number): void {
    this.cluster.member(role, index).signal('SIGCONT');
  }

  /** After a test: ends what it left running, starts what it left dead, and waits for free memory. */
  async settle(): Promise<void> {
    for (const call of this.#calls) call.leave();
    this.#calls = [];
    await this.#repair();
    await this.isFree();
  }

  async #repair(): Promise<void> {
    for (const role of ['worker', 'decode', 'router'] as const) {
      const ofRole = this.cluster.members.filter((member) => member.role === role);
      for (const [index, { running }] of ofRole.entries()) {
        if (!running) await this.cluster.restart(role, index);
      }
    }
  }

  /** Files of sessions in the value store, as `<session>/<file>`. */
  storeFiles(): string[] {
    return filesIn(this.cluster.directories.store).flatMap((session) =>
      filesIn(this.#inStore(session)).map((file) => `${session}/${file}`),
    );
  }

  /** Absolute path of a file of the store. */
  storePath(file: string): string {
    return this.#inStore(file);
  }

  /** Nothing of sessions is in processes and files. */
  async memoryIsFree(withinMs: number): Promise<void> {
    await poll(
      async () => this.#heldMemory(),
      (held) => held.length === 0,
      withinMs,
    );
  }

  /** As memoryIsFree(), and Redis holds nothing of them but what a later Resume reads. */
  async isFree(withinMs = 5_000): Promise<void> {
    await poll(
      async () => [...(await this.#heldMemory()), ...(await this.#heldInRedis())],
      (held) => held.length === 0,
      withinMs,
    );
  }

  /**
   * Ends everything; fails if files of sessions were left before, which settle() has seen to their
   * end, or if a process or a folder of the cluster is left after.
   */
  async stop(): Promise<void> {
    for (const client of this.#clients.values()) client.close();
    for (const { worker, decode } of this.#engines.values()) {
      worker.close();
      decode.close();
    }
    const { ownBase } = this;
    const filesOfSessions = this.storeFiles();
    await this.store.close();
    await this.cluster.stop();
    await this.redis.stop();
    try {
      const { clusterId, store, temporary } = this.cluster.directories;
      assert.deepEqual(filesOfSessions, []);
      assert.deepEqual(processesOfCluster(clusterId), []);
      const folders = [store, temporary, ...(ownBase === null ? [] : [ownBase])];
      assert.deepEqual(folders.filter(existsSync), []);
    } finally {
      if (ownBase !== null) rmSync(ownBase, { recursive: true, force: true });
    }
  }

  /** Memory of sessions, as processes and files themselves say: a router would wait for the dead. */
  async #heldMemory(): Promise<string[]> {
    const held = this.storeFiles();
    for (const { role, name, address, running } of this.cluster.members) {
      if (!running || (role !== 'worker' && role !== 'decode')) continue;
      const { sessions, mappings, privateBytes } = await this.#ask(role, address);
      const counts = { sessions, mappings: Number(mappings), privateBytes: Number(privateBytes) };
      for (const [what, count] of Object.entries(counts)) {
        if (count !== 0) held.push(`${name}: ${count} ${what}`);
      }
    }
    return held;
  }

  /** What Redis still says of sessions, and members that it does not know. */
  async #heldInRedis(): Promise<string[]> {
    const { records, fleet, reservations } = this.store;
    const announced = await fleet.members();
    const held = (await records.activeSessionIds()).map((sessionId) => `session ${sessionId}`);
    for (const { role, name, running } of this.cluster.members) {
      const isEngine = role === 'worker' || role === 'decode';
      const isKnown = announced.some(({ memberId }) => memberId === name);
      if (running && isEngine && !isKnown) held.push(`${name} is not there`);
    }
    for (const storeId of new Set(announced.map((member) => member.storeId))) {
      const bytes = await reservations.reservedBytes(storeId);
      if (bytes !== 0) held.push(`${bytes} bytes reserved`);
    }
    return held;
  }

  async #ask(
    role: 'worker' | 'decode',
    address: string,
  ): Promise<{ sessions: number; mappings: string; privateBytes: string }> {
    const client = this.#engines.get(address) ?? {
      worker: makeClient('worker', address, null),
      decode: makeClient('decode', address, null),
    };
    this.#engines.set(address, client);
    const call = { timeoutMs: CALL_MS };
    return role === 'worker'
      ? unaryCall(client.worker, 'getStatus', {}, call)
      : unaryCall(client.decode, 'getStatus', {}, call);
  }

  #inStore(name: string): string {
    return join(this.cluster.directories.store, name);
  }
}

/** Names in a folder; none of what is no folder, or gone meanwhile. */
function filesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') return [];
    throw error;
  }
}

/** `worker-1-<cluster>` is 1. */
function indexOf(memberId: string): number {
  const index = /^(?:worker|decode)-(\d+)/.exec(memberId)?.[1];
  if (index === undefined) throw new Error(`"${memberId}" is no member's name`);
  return Number(index);
}
