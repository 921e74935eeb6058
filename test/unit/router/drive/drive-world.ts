import { Redis } from 'ioredis';
import type { FleetMember } from '../../../../services/domain/fleet.js';
import { ServingError } from '../../../../services/domain/serving-error.js';
import type { SequencedEvent, SessionEvent } from '../../../../services/domain/session-event.js';
import type { SessionRecord } from '../../../../services/domain/session-record.js';
import { makeLog } from '../../../../services/platform/log.js';
import { makeMetrics } from '../../../../services/platform/metrics.js';
import { redisOptions } from '../../../../services/platform/redis-url.js';
import { sessionKeys } from '../../../../services/platform/session-store/keys.js';
import {
  openSessionStore,
  type OpenSessionStore,
} from '../../../../services/platform/session-store/open-session-store.js';
import type { GenerationHeader } from '../../../../services/router/admission/generation-header.js';
import { Driver, type KeptTurn } from '../../../../services/router/drive/driver.js';
import { FleetView } from '../../../../services/router/drive/fleet-view.js';
import type { DecodePeers, WorkerPeers } from '../../../../services/router/drive/peers.js';
import { BullPrefillQueues } from '../../../../services/router/drive/prefill-queues.js';
import type { SessionRun } from '../../../../services/router/drive/session-run.js';
import { makeDriveMetrics } from '../../../../services/router/metrics.js';
import { poll } from '../../../support/poll.js';
import { startRedis } from '../../../support/redis-server.js';
import { FakeDecode } from './fake-decode.js';
import { fakeMember, POLICY_DEFAULTS } from './fake-members.js';
import { FakeValueStore, FakeWorker } from './fake-worker.js';
import { Severance } from './severance.js';

const DRIVER_LIMITS = {
  defaultMaxPromptTokens: 131_072,
  defaultMaxNewTokens: 512,
  maxSessions: 100,
  maxSessionsPerTenant: 0,
  maxQueuedJobs: 1_000,
  maxKeepSessionMs: 600_000,
};
const HEADER: GenerationHeader = {
  ...{ model: 'needle', temperature: 0, topK: 0, topP: null, seed: null, maxNewTokens: 16 },
  ...{ stopTexts: [], ignoreEos: false, prefillPolicy: null, cachePolicy: null, sparse: null },
  deadlineMs: 0,
  ...{ tenant: '', priority: 'normal', maxPromptTokens: 16_384, onDisconnect: 'cancel' },
  ...{ resumeGraceMs: 60_000, keepSessionMs: 0, keepExactKeys: false, promptLogprobs: [] },
  ...{ forcedTokenIds: [], continueSessionId: null },
};
/** For what polls of a second, or two in a row, must notice. */
const PATIENCE_MS = 8_000;

/** `count` ids that differ from one `first` to another. */
export function someIds(count: number, first = 0): number[] {
  return Array.from({ length: count }, (_, i) => ((first + i) % 4_000) + 4);
}

/** A gate that holds those who come until it is opened. */
export function closedGate(): { readonly passed: () => Promise<void>; readonly open: () => void } {
  let open: () => void = () => undefined;
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { passed: async () => opened, open };
}

/** One router of the world. */
export interface WorldDriver {
  readonly id: string;
  readonly driver: Driver;
  metrics(): Promise<string>;
  /** As SIGKILL: nothing that it does from now on is seen anywhere. Its leases stay until they end. */
  kill(): void;
  /** As SIGTERM, without a grace. */
  stop(): Promise<void>;
}

/**
 * Routers without their gRPC side, over one real Redis, with workers and decodes that tests control.
 * There are worker-1 and decode-1 of store-1 to begin with.
 */
export class DriveWorld {
  readonly #workers = new Map<string, FakeWorker>();
  readonly #decodes = new Map<string, FakeDecode>();
  readonly #valueStores = new Map<string, FakeValueStore>();
  readonly #closes: (() => Promise<unknown>)[] = [];
  readonly #stops: (() => Promise<void>)[] = [];
  #members: readonly FleetMember[] = [];
  readonly #heart: NodeJS.Timeout;

  private constructor(
    readonly redisUrl: string,
    readonly raw: Redis,
    readonly store: OpenSessionStore,
    private readonly stopRedis: () => Promise<void>,
  ) {
    this.#heart = setInterval(() => void this.#beat(), 2_000);
  }

  static async start(): Promise<DriveWorld> {
    const redis = await startRedis();
    const store = await openSessionStore(redis.url, makeLog('test', 'silent'));
    const raw = new Redis(redisOptions(redis.url));
    const world = new DriveWorld(redis.url, raw, store, async () => redis.stop());
    await world.announce([fakeMember('worker'), fakeMember('decode')]);
    return world;
  }

  worker(workerId = 'worker-1'): FakeWorker {
    const worker = this.#workers.get(workerId);
    if (worker === undefined) throw new Error(`there is no ${workerId}`);
    return worker;
  }

  decode(decodeId = 'decode-1'): FakeDecode {
    const decode = this.#decodes.get(decodeId);
    if (decode === undefined) throw new Error(`there is no ${decodeId}`);
    return decode;
  }

  valueStore(storeId = 'store-1'): FakeValueStore {
    const known = this.#valueStores.get(storeId) ?? new FakeValueStore();
    this.#valueStores.set(storeId, known);
    return known;
  }

  /** Replaces what the fleet is; new members get a process, whose address is their id. */
  async announce(members: readonly FleetMember[]): Promise<void> {
    const { fleet } = this.store;
    const placed = members.map((member) => ({ ...member, address: member.memberId }));
    for (const { memberId, role, storeId } of placed) {
      if (role === 'worker' && !this.#workers.has(memberId)) {
        const valueStore = this.valueStore(storeId);
        this.#workers.set(memberId, new FakeWorker(this.redisUrl, memberId, valueStore));
      }
      if (role === 'decode' && !this.#decodes.has(memberId)) {
        this.#decodes.set(memberId, new FakeDecode(this.store, memberId));
      }
    }
    const gone = this.#members.filter((old) => !placed.some((p) => p.memberId === old.memberId));
    this.#members = placed;
    await Promise.all(gone.map(async ({ memberId }) => fleet.withdraw(memberId)));
    await this.#beat();
  }

  addDriver(id: string, recoveryMs = 60_000): WorldDriver {
    const severance = new Severance();
    const log = makeLog('test', 'silent');
    const queues = new BullPrefillQueues(redisOptions(this.redisUrl), this.store.fairShares, log);
    this.#closes.push(async () => queues.close());
    const registry = makeMetrics('test');
    const store = severance.store(this.store);
    const driver = new Driver(
      {
        store,
        fleet: new FleetView(store.fleet, 0, () => performance.now()),
        queues: severance.of(queues),
        workers: severance.of(this.#workerPeers()),
        decodes: severance.of(this.#decodePeers()),
        ...{ driverId: id, log, recoveryMs },
        nowUnixMs: () => Date.now(),
        metrics: makeDriveMetrics(registry),
        policyDefaults: () => POLICY_DEFAULTS,
      },
      DRIVER_LIMITS,
    );
    let isKilled = false;
    const kill = (): void => {
      isKilled = true;
      severance.cut();
      void driver.shutDown(0); // its timers; whatever it says is not heard
    };
    const stop = async (): Promise<void> => {
      if (!isKilled) await driver.shutDown(0);
    };
    this.#stops.push(stop);
    return { id, driver, kill, stop, metrics: async () => registry.metrics() };
  }

  /** Opens a session with its whole prompt. */
  async generate(
    { driver }: WorldDriver,
    promptIds: readonly number[],
    header: Partial<GenerationHeader> = {},
  ): Promise<SessionRun> {
    const run = await this.open(driver, header);
    run.offer(Uint32Array.from(promptIds), 0);
    run.closeUpload();
    return run;
  }

  async open(driver: Driver, header: Partial<GenerationHeader> = {}): Promise<SessionRun> {
    const call = { deadlineUnixMs: null, traceparent: null };
    return (await driver.open({ ...HEADER, ...header }, call)).run;
  }

  /** Another turn on a kept session, by a router that may not be the one which keeps it. */
  async nextTurn(
    router: WorldDriver,
    sessionId: string,
    turnIds: readonly number[],
    header: Partial<GenerationHeader> = {},
  ): Promise<SessionRun> {
    const turn = await this.continueKept(router, sessionId, header);
    await turn.run.nextTurn(turnIds, turn.checked, turn.kept);
    return turn.run;
  }

  /** Brings a kept session to a router, where its next turn can begin. */
  async continueKept(
    { driver }: WorldDriver,
    sessionId: string,
    header: Partial<GenerationHeader> = {},
  ): Promise<KeptTurn> {
    const call = { deadlineUnixMs: null, traceparent: null };
    return driver.continueKept({ ...HEADER, ...header }, sessionId, call);
  }

  /** A session that a router keeps, idle, and the last event of its first turn. */
  async keptSession(
    router: WorldDriver,
    promptIds: readonly number[],
    header: Partial<GenerationHeader> = {},
  ): Promise<{ sessionId: string; lastSequence: number }> {
    const { sessionId } = await this.generate(router, promptIds, {
      keepSessionMs: 60_000,
      ...header,
    });
    const { lastSequence } = await this.answer(sessionId);
    await this.isKeptBy(router, sessionId);
    return { sessionId, lastSequence };
  }

  async isKeptBy({ driver }: WorldDriver, sessionId: string): Promise<void> {
    const kept = (): boolean => (driver.find(sessionId)?.kept ?? null) !== null;
    await poll(kept, (isKept) => isKept, PATIENCE_MS, 5);
  }

  async events(sessionId: string): Promise<SequencedEvent[]> {
    return this.store.events.read(sessionId, 0, 10_000);
  }

  /** The first event after `after` that `wanted` takes. */
  async until(
    sessionId: string,
    wanted: (event: SessionEvent) => boolean,
    after = 0,
  ): Promise<SequencedEvent> {
    const signal = AbortSignal.timeout(PATIENCE_MS);
    for await (const sequenced of this.store.events.follow(sessionId, after, signal)) {
      if (wanted(sequenced.event)) return sequenced;
    }
    const had = (await this.events(sessionId)).map(({ event }) => event.type).join(' ');
    throw new Error(`no such event in time; there were: ${had}`);
  }

  /** The answer of the turn whose events come after `after`, once it has ended well. */
  async answer(sessionId: string, after = 0): Promise<{ ids: number[]; lastSequence: number }> {
    const { sequence } = await this.until(sessionId, ({ type }) => isLast(type), after);
    const events = await this.store.events.read(sessionId, after, sequence - after);
    const last = events.at(-1)?.event;
    if (last?.type === 'error') throw new ServingError(last.code, last.message);
    const ids = events.flatMap(({ event }) => (event.type === 'token' ? [event.tokenId] : []));
    return { ids, lastSequence: sequence };
  }

  /** The record once it is as `wanted` says. */
  async record(
    sessionId: string,
    wanted: (record: SessionRecord) => boolean = () => true,
  ): Promise<SessionRecord> {
    const load = async (): Promise<SessionRecord | null> => this.store.records.load(sessionId);
    const found = await poll(load, (record) => record !== null && wanted(record), PATIENCE_MS, 5);
    if (found === null) throw new Error('there is no record');
    return found;
  }

  async inState(sessionId: string, state: SessionRecord['state']): Promise<SessionRecord> {
    return this.record(sessionId, (record) => record.state === state);
  }

  /** Settles once nothing is reserved in a store. */
  async nothingReserved(storeId = 'store-1'): Promise<void> {
    const { reservations } = this.store;
    const reserved = async (): Promise<number> => reservations.reservedBytes(storeId);
    await poll(reserved, (bytes) => bytes === 0, PATIENCE_MS, 5);
  }

  /** Ends a dead router's lease before its time. */
  async endLease(sessionId: string): Promise<void> {
    await this.raw.del(sessionKeys(sessionId).lease);
  }

  async stop(): Promise<void> {
    clearInterval(this.#heart);
    await Promise.all(this.#stops.map(async (stop) => stop()));
    await Promise.all([...this.#workers.values()].map(async (worker) => worker.close()));
    await Promise.all(this.#closes.map(async (close) => close()));
    this.raw.disconnect();
    await this.store.close();
    await this.stopRedis();
  }

  async #beat(): Promise<void> {
    const { fleet } = this.store;
    await Promise.all(this.#members.map(async (member) => fleet.announce(member)));
  }

  /** Calls go where their address says. */
  #workerPeers(): WorkerPeers {
    const at = (address: string): FakeWorker => this.worker(address);
    return {
      releaseSession: async (address, ...rest) => at(address).releaseSession(address, ...rest),
      reuseSegments: async (address, call) => at(address).reuseSegments(address, call),
      getStatus: async (address) => at(address).getStatus(),
    };
  }

  #decodePeers(): DecodePeers {
    const at = (address: string): FakeDecode => this.decode(address);
    return {
      startSession: async (address, ...rest) => at(address).startSession(address, ...rest),
      appendTurn: async (address, call) => at(address).appendTurn(address, call),
      releaseSession: async (address, ...rest) => at(address).releaseSession(address, ...rest),
      getStatus: async (address) => at(address).getStatus(),
    };
  }
}

function isLast(type: SessionEvent['type']): boolean {
  return type === 'finished' || type === 'error';
}
