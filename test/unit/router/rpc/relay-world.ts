import type { ServiceError } from '@grpc/grpc-js';
import type { ResumeRequest } from '../../../../proto/gen/longshadow/router/v1/ResumeRequest.js';
import type { ResumeResponse__Output } from '../../../../proto/gen/longshadow/router/v1/ResumeResponse.js';
import type { RouterServiceClient } from '../../../../proto/gen/longshadow/router/v1/RouterService.js';
import type { SessionEvent } from '../../../../services/domain/session-event.js';
import type { SessionRecord } from '../../../../services/domain/session-record.js';
import type { ServingError } from '../../../../services/domain/serving-error.js';
import { makeLog } from '../../../../services/platform/log.js';
import { makeMetrics } from '../../../../services/platform/metrics.js';
import { makeClient } from '../../../../services/platform/rpc/client.js';
import { startServer } from '../../../../services/platform/rpc/server.js';
import {
  openSessionStore,
  type OpenSessionStore,
} from '../../../../services/platform/session-store/open-session-store.js';
import { Relays } from '../../../../services/router/rpc/relays.js';
import type { RouterDeps, SharedSessions } from '../../../../services/router/rpc/router-deps.js';
import { makeRouterService } from '../../../../services/router/rpc/router-service.js';
import { startRedis, type TestRedis } from '../../../support/redis-server.js';
import { newRecord } from '../../../support/session-record.js';

export const ROUTER_ID = 'router-relaying';
/** Of another router: what is relayed is not driven here. */
const DRIVER_ID = 'router-driving';

/** A router that only relays: a real Redis, and a test in the place of the driver. */
export interface RelayWorld {
  readonly client: RouterServiceClient;
  readonly redis: TestRedis;
  readonly store: OpenSessionStore;
  readonly relays: Relays;
  /** Clients that were reported gone: session and code. */
  readonly gone: readonly string[];
  /** Makes a session that another router drives. */
  create(changes?: Partial<SessionRecord>): Promise<string>;
  append(sessionId: string, ...events: readonly SessionEvent[]): Promise<void>;
  /** Changes the record, as its driver. */
  change(sessionId: string, changes: Partial<SessionRecord>): Promise<void>;
  stop(): Promise<void>;
}

/** @param sessions what the driver does besides hearing of clients that are gone */
export async function startRelayWorld(sessions: Partial<SharedSessions> = {}): Promise<RelayWorld> {
  const redis = await startRedis();
  const log = makeLog('test', 'silent');
  const store = await openSessionStore(redis.url, log);
  const relays = new Relays(store.clients, ROUTER_ID, log);
  const gone: string[] = [];
  const clientGone = async (sessionId: string, reason: ServingError): Promise<void> => {
    gone.push(`${sessionId} ${reason.code}`);
    return Promise.resolve();
  };
  // The handlers of this test ask nothing else of a router.
  const deps = { store, relays, log, driver: { clientGone, ...sessions } } as unknown as RouterDeps;
  const service = makeRouterService(deps, { log, metrics: makeMetrics('test') });
  const server = await startServer({ address: '127.0.0.1:0', tls: null, services: [service], log });
  const client = makeClient('router', server.address, null);
  let created = 0;
  return {
    ...{ client, redis, store, relays, gone },
    create: async (changes = {}) => {
      created += 1;
      const sessionId = created.toString(16).padStart(32, '0');
      await store.records.create({ ...newRecord(sessionId), ...changes }, DRIVER_ID);
      return sessionId;
    },
    append: async (sessionId, ...events) => {
      for (const event of events) {
        const answer = await store.events.append(sessionId, 1, event);
        if (typeof answer !== 'number') throw new Error(`append answered ${answer}`);
      }
    },
    change: async (sessionId, changes) => {
      const record = await store.records.load(sessionId);
      if (record === null) throw new Error('no record');
      const changed = await store.records.compareAndSet(
        record,
        { ...record, ...changes },
        DRIVER_ID,
      );
      if (changed === null) throw new Error('the record was not changed');
    },
    stop: async () => {
      client.close();
      relays.stop();
      await server.close(1_000);
      await store.close();
      await redis.stop();
    },
  };
}

export interface ResumeCall {
  readonly responses: readonly ResumeResponse__Output[];
  /** Null: the call ended well. */
  readonly ended: Promise<ServiceError | null>;
  cancel(): void;
}

export function resume(client: RouterServiceClient, request: ResumeRequest): ResumeCall {
  const call = client.resume(request);
  const responses: ResumeResponse__Output[] = [];
  call.on('data', (response: ResumeResponse__Output) => responses.push(response));
  const ended = new Promise<ServiceError | null>((resolve) => {
    call.on('error', (error: ServiceError) => {
      resolve(error);
    });
    call.on('end', () => {
      resolve(null);
    });
  });
  return {
    responses,
    ended,
    cancel: () => {
      call.cancel();
    },
  };
}

export function token(index: number): SessionEvent {
  return {
    type: 'token',
    index,
    tokenId: 7 + index,
    text: ` ${String(index)}`,
    logprob: 0,
    rank: 1,
  };
}

export const ACCEPTED: SessionEvent = {
  type: 'accepted',
  model: 'needle',
  modelFingerprint: 'a'.repeat(32),
  policy: {
    prefillPolicy: 'dense',
    cachePolicy: 'full',
    dtype: 'fp32',
    cutRule: 'cpu',
    sparse: null,
  },
  reservedBytes: 4_096,
  reservedTokens: 1_024,
};

export function finished(completionTokens: number, keptUntilUnixMs: number | null): SessionEvent {
  return {
    type: 'finished',
    finishReason: 'length',
    text: '',
    keptUntilUnixMs,
    report: {
      policy: {
        prefillPolicy: 'dense',
        cachePolicy: 'full',
        dtype: 'fp32',
        cutRule: 'cpu',
        sparse: null,
      },
      ...{ promptTokens: 512, cachedTokens: 0, completionTokens, timeToFirstTokenMs: 1 },
      ...{
        prefillMs: 1,
        decodeMs: 1,
        segmentBytes: 0,
        privateBytes: 0,
        promptReran: false,
        sparseWork: null,
      },
      ...{ workerIds: ['worker-1'], decodeId: 'decode-1' },
    },
  };
}
