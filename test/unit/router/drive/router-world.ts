import { fileURLToPath } from 'node:url';
import type { RouterServiceClient } from '../../../../proto/gen/longshadow/router/v1/RouterService.js';
import type { GenerateHeader } from '../../../../proto/gen/longshadow/router/v1/GenerateHeader.js';
import type { GenerateResponse__Output } from '../../../../proto/gen/longshadow/router/v1/GenerateResponse.js';
import type { PromptPart } from '../../../../proto/gen/longshadow/router/v1/PromptPart.js';
import type { ServiceError } from '@grpc/grpc-js';
import type { FleetMember } from '../../../../services/domain/fleet.js';
import { makeLog } from '../../../../services/platform/log.js';
import { makeMetrics } from '../../../../services/platform/metrics.js';
import { redisOptions } from '../../../../services/platform/redis-url.js';
import { makeClient } from '../../../../services/platform/rpc/client.js';
import { startServer } from '../../../../services/platform/rpc/server.js';
import {
  openSessionStore,
  type OpenSessionStore,
} from '../../../../services/platform/session-store/open-session-store.js';
import { makeDriveMetrics } from '../../../../services/router/metrics.js';
import { Driver } from '../../../../services/router/drive/driver.js';
import { FleetView } from '../../../../services/router/drive/fleet-view.js';
import { BullPrefillQueues } from '../../../../services/router/drive/prefill-queues.js';
import { Models } from '../../../../services/router/models.js';
import { Relays } from '../../../../services/router/rpc/relays.js';
import { makeRouterService } from '../../../../services/router/rpc/router-service.js';
import { startRedis, type TestRedis } from '../../../support/redis-server.js';
import { FakeDecode } from './fake-decode.js';
import { fakeMember, POLICY_DEFAULTS } from './fake-members.js';
import { FakeWorker } from './fake-worker.js';

export const NEEDLE = fileURLToPath(new URL('../../../../models/needle', import.meta.url));

/** A router as main.ts wires it, on a real Redis, with a worker and a decode that tests control. */
export interface RouterWorld {
  readonly client: RouterServiceClient;
  readonly redis: TestRedis & { suspend(): void; resume(): void };
  readonly store: OpenSessionStore;
  readonly driver: Driver;
  readonly worker: FakeWorker;
  readonly decode: FakeDecode;
  /** Replaces what the fleet is. */
  announce(members: readonly FleetMember[]): Promise<void>;
  metrics(): Promise<string>;
  stop(): Promise<void>;
}

export async function startRouterWorld(
  maxSessions = 100,
  uploadIdleMs = 60_000,
): Promise<RouterWorld> {
  const redis = await startRedis();
  const log = makeLog('test', 'error');
  const store = await openSessionStore(redis.url, log);
  const worker = new FakeWorker(redis.url);
  const decode = new FakeDecode(store);
  const queues = new BullPrefillQueues(redisOptions(redis.url), store.fairShares, log);
  const fleet = new FleetView(store.fleet, 10, () => performance.now());
  const registry = makeMetrics('test');
  const limits = {
    defaultMaxPromptTokens: 131_072,
    defaultMaxNewTokens: 512,
    maxSessions,
    maxSessionsPerTenant: 0,
    maxQueuedJobs: 1_000,
    maxKeepSessionMs: 60_000,
  };
  const driver = new Driver(
    {
      ...{ store, fleet, queues, log, workers: worker, decodes: decode },
      driverId: 'router-test',
      nowUnixMs: () => Date.now(),
      metrics: makeDriveMetrics(registry),
      policyDefaults: () => POLICY_DEFAULTS,
      recoveryMs: 60_000,
    },
    limits,
  );
  const models = await Models.load(new Map([['needle', NEEDLE]]));
  const service = makeRouterService(
    {
      models,
      driver,
      store,
      fleet,
      workers: worker,
      decodes: decode,
      log,
      defaultMaxPromptTokens: 131_072,
      uploadIdleMs,
      relays: new Relays(store.clients, 'router-test', log),
    },
    { log, metrics: registry },
  );
  const server = await startServer({ address: '127.0.0.1:0', tls: null, services: [service], log });
  const client = makeClient('router', server.address, null);
  let members: readonly FleetMember[] = [fakeMember('worker'), fakeMember('decode')];
  const beat = async (): Promise<void> => {
    await Promise.all(members.map(async (member) => store.fleet.announce(member)));
  };
  await beat();
  const heart = setInterval(() => {
    beat().catch(() => undefined); // a test holds Redis
  }, 2_000);
  return {
    ...{ client, store, driver, worker, decode },
    redis: {
      ...redis,
      suspend: () => {
        process.kill(redis.pid, 'SIGSTOP');
      },
      resume: () => {
        process.kill(redis.pid, 'SIGCONT');
      },
    },
    announce: async (next) => {
      await Promise.all(members.map(async ({ memberId }) => store.fleet.withdraw(memberId)));
      members = next;
      await beat();
      await new Promise((resolve) => setTimeout(resolve, 20)); // the router's view may be 10 ms old
    },
    metrics: async () => registry.metrics(),
    stop: async () => {
      clearInterval(heart);
      client.close();
      await driver.shutDown(0);
      await server.close(1_000);
      await worker.close();
      await queues.close();
      await store.close();
      await redis.stop();
    },
  };
}

/** A Generate call: what came, and how it ended. */
export interface GenerateCall {
  readonly responses: GenerateResponse__Output[];
  send(part: PromptPart): void;
  close(): void;
  cancel(): void;
  /** Settles with the first response that the predicate takes. */
  until(wanted: (response: GenerateResponse__Output) => boolean): Promise<GenerateResponse__Output>;
  /** Null after OK. */
  readonly ended: Promise<ServiceError | null>;
}

export function generate(world: RouterWorld, header: GenerateHeader): GenerateCall {
  const stream = world.client.Generate();
  const responses: GenerateResponse__Output[] = [];
  const listeners = new Set<() => void>();
  stream.on('data', (response: GenerateResponse__Output) => {
    responses.push(response);
    for (const listener of listeners) listener();
  });
  const ended = new Promise<ServiceError | null>((resolve) => {
    stream.on('error', (error: ServiceError) => {
      resolve(error);
    });
    stream.on('end', () => {
      resolve(null);
    });
  });
  stream.write({ header: { model: 'needle', ...header } });
  return {
    responses,
    ended,
    send: (part) => {
      stream.write({ part });
    },
    close: () => {
      stream.end();
    },
    cancel: () => {
      stream.cancel();
    },
    until: async (wanted) =>
      new Promise((resolve, reject) => {
        const look = (): void => {
          const found = responses.find(wanted);
          if (found === undefined) return;
          listeners.delete(look);
          resolve(found);
        };
        listeners.add(look);
        look();
        ended.then((error) => {
          reject(error ?? new Error('the call ended before'));
        }, reject);
      }),
  };
}

/** Settles when the condition holds; fails the test after 5 s. */
export async function eventually(
  what: string,
  condition: () => boolean | Promise<boolean>,
): Promise<void> {
  const limit = Date.now() + 5_000;
  while (!(await condition())) {
    if (Date.now() > limit) throw new Error(`not within 5 s: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
