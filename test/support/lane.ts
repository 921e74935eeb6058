import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { Queue, QueueEvents } from 'bullmq';
import type { GetStatusResponse__Output as DecodeStatus } from '../../proto/gen/longshadow/decode/v1/GetStatusResponse.js';
import type { GetStatusResponse__Output as WorkerStatus } from '../../proto/gen/longshadow/worker/v1/GetStatusResponse.js';
import {
  type ServiceChild,
  type ServiceRole,
  startServiceChild,
  stopServiceChild,
} from '../../services/cli/cluster/service-child.js';
import {
  PREFILL_JOB_SCHEMA_VERSION,
  type PrefillJob,
  prefillJobId,
  type PrefillJobResult,
  workerQueueName,
} from '../../services/domain/prefill-job.js';
import type { SessionEvent } from '../../services/domain/session-event.js';
import {
  SESSION_SCHEMA_VERSION,
  type SessionRecord,
} from '../../services/domain/session-record.js';
import type { TokenRange } from '../../services/domain/token-range.js';
import { sessionFingerprint } from '../../services/platform/fingerprint.js';
import { withChecksum } from '../../services/platform/job-checksum.js';
import { makeLog } from '../../services/platform/log.js';
import { redisOptions } from '../../services/platform/redis-url.js';
import { makeClient, unaryCall } from '../../services/platform/rpc/client.js';
import type { ServiceTypes } from '../../services/platform/rpc/load-service.js';
import {
  openSessionStore,
  type OpenSessionStore,
} from '../../services/platform/session-store/open-session-store.js';
import { MODEL, NEEDLE_MODEL } from './cluster.js';
import { jobEnd } from './job-end.js';
import { LaneDecode, type LaneHistory, type LaneTurn } from './lane-decode.js';
import { type TestRedis, startRedis } from './redis-server.js';

const WORKER_ID = 'worker-test';
const DRIVER_ID = 'driver-test';
const CALL = { timeoutMs: 20_000 };

/** A session as a test drives it. */
export interface LaneSession {
  readonly record: SessionRecord;
  readonly promptIds: Uint32Array;
}

/**
 * A real worker, a real decode and a real Redis, without a router: the test is the driver. It puts
 * jobs on the worker's queue and calls both services by hand.
 */
export class Lane {
  #workerClient: ServiceTypes['worker']['client'];
  readonly #decodes: LaneDecode[] = [];

  private constructor(
    readonly redis: TestRedis,
    readonly storeDirectory: string,
    readonly store: OpenSessionStore,
    private worker: ServiceChild,
    decode: ServiceChild,
    private readonly queue: Queue<PrefillJob, PrefillJobResult>,
    private readonly queueEvents: QueueEvents,
    private readonly environment: NodeJS.ProcessEnv,
  ) {
    this.#workerClient = makeClient('worker', worker.address, null);
    this.#decodes.push(new LaneDecode(decode));
  }

  static async start(environment: NodeJS.ProcessEnv = {}): Promise<Lane> {
    const redis = await startRedis();
    const storeDirectory = mkdtempSync('/dev/shm/longshadow-test-');
    const place = {
      ...process.env,
      LONGSHADOW_EXIT_WITH_PARENT: '1',
      LONGSHADOW_LOG_LEVEL: 'error',
      REDIS_URL: redis.url,
      WORKER_ID,
      ...environment,
    };
    const [worker, decode] = await Promise.all([
      startMember('worker', place, storeDirectory),
      startMember('decode', place, storeDirectory),
    ]);
    const connection = redisOptions(redis.url);
    const queue = new Queue<PrefillJob, PrefillJobResult>(workerQueueName(WORKER_ID), {
      connection,
    });
    const queueEvents = new QueueEvents(workerQueueName(WORKER_ID), { connection });
    await queueEvents.waitUntilReady();
    const store = await openSessionStore(redis.url, makeLog('test', 'error'));
    return new Lane(redis, storeDirectory, store, worker, decode, queue, queueEvents, place);
  }

  /** Creates a session's record and its token ids. */
  async open(
    promptIds: readonly number[],
    more: Partial<SessionRecord> = {},
  ): Promise<LaneSession> {
    const members = await this.store.fleet.members();
    const member = members.find(({ memberId }) => memberId === WORKER_ID);
    if (member === undefined) throw new Error('the worker has not announced itself');
    const { modelFingerprint, layerBegin, layerEnd } = member;
    const sessionId = randomBytes(16).toString('hex');
    const policy = {
      prefillPolicy: 'dense',
      cachePolicy: 'full',
      dtype: member.dtype,
      cutRule: 'cpu',
      sparse: null,
    } as const;
    const epoch = 1;
    const inputs = { modelFingerprint, policy, sessionId, epoch, layerBegin, layerEnd };
    const record: SessionRecord = {
      schemaVersion: SESSION_SCHEMA_VERSION,
      sessionId,
      revision: 1,
      state: 'prefilling',
      epoch,
      attempt: 1,
      lane: [WORKER_ID],
      decodeId: null,
      turn: {
        number: 0,
        afterSequence: 0,
        beginToken: 0,
        endToken: promptIds.length,
        cachedTokens: 0,
        promptReran: false,
        sparseWork: null,
        admittedUnixMs: Date.now(),
        prefilledUnixMs: null,
      },
      model: MODEL,
      modelFingerprint,
      policy,
      fingerprint: sessionFingerprint(inputs),
      generation: {
        sampling: { temperature: 0, topK: 0, topP: 1, seed: '0' },
        stopping: { maxNewTokens: 32, stopTexts: [], ignoreEos: false },
        forcedTokenIds: [],
        promptLogprobs: [],
      },
      receivedTokens: promptIds.length,
      uploadClosed: true,
      sealedTokens: 0,
      historyTokens: 0,
      answers: [],
      turnCuts: [],
      nextToken: 0,
      segments: [],
      origins: [],
      dataLosses: 0,
      maxPromptTokens: promptIds.length,
      reservation: null,
      tenant: 'test',
      priority: 'normal',
      traceparent: null,
      deadlineUnixMs: null,
      onDisconnect: 'cancel',
      resumeGraceMs: 0,
      keepSessionMs: 0,
      keepExactKeys: false,
      keepUntilUnixMs: null,
      createdUnixMs: Date.now(),
      ...more,
    };
    await this.store.records.create(record, DRIVER_ID);
    return { record, promptIds: Uint32Array.from(promptIds) };
  }

  /** Puts a chunk's job on the queue; the result, or the Error that BullMQ makes of its failure. */
  async run(
    { record, promptIds }: LaneSession,
    { beginToken, endToken }: TokenRange,
    more: Partial<PrefillJob> = {},
  ): Promise<PrefillJobResult> {
    const isSeal = beginToken === endToken;
    if (!isSeal) {
      const ids = promptIds.slice(beginToken, endToken);
      await this.store.tokenIds.put(record.sessionId, beginToken, ids);
    }
    const data: PrefillJob = {
      schemaVersion: PREFILL_JOB_SCHEMA_VERSION,
      kind: isSeal ? 'seal' : 'prefill',
      sessionId: record.sessionId,
      epoch: record.epoch,
      stage: 0,
      modelFingerprint: record.modelFingerprint,
      fingerprint: record.fingerprint,
      beginToken,
      endToken,
      nextTokenId: promptIds[endToken] ?? null,
      promptLogprobs: [],
      cachedTokens: 0,
      totalTokens: promptIds.length,
      deadlineUnixMs: null,
      traceparent: null,
      ...more,
    };
    const jobId = prefillJobId(data);
    const end = jobEnd(this.queueEvents, jobId);
    await this.queue.add(data.kind, withChecksum(data), {
      jobId,
      removeOnComplete: true,
      removeOnFail: true,
    });
    return end;
  }

  /** Prefills a whole prompt in chunks of at most `chunkTokens`, and seals it. */
  async prefill(session: LaneSession, chunkTokens: number): Promise<void> {
    const total = session.promptIds.length;
    for (let beginToken = 0; beginToken < total; beginToken += chunkTokens) {
      await this.run(session, { beginToken, endToken: Math.min(beginToken + chunkTokens, total) });
    }
    await this.run(session, { beginToken: total, endToken: total });
  }

  /** The decode that the lane began with. */
  get decode(): ServiceChild {
    return this.#firstDecode.service;
  }

  get #firstDecode(): LaneDecode {
    const [first] = this.#decodes;
    if (first === undefined) throw new Error('a lane has a decode');
    return first;
  }

  /** Starts another decode of the same store. */
  async addDecode(environment: NodeJS.ProcessEnv = {}): Promise<LaneDecode> {
    const place = { ...this.environment, ...environment };
    const decode = new LaneDecode(await startMember('decode', place, this.storeDirectory));
    this.#decodes.push(decode);
    return decode;
  }

  /** Writes into the record that a decode takes the session once more; returns the session so. */
  async nextAttempt(session: LaneSession): Promise<LaneSession> {
    const { records } = this.store;
    const { sessionId } = session.record;
    const stored = await records.load(sessionId);
    if (stored === null) throw new Error('the record is gone');
    await records.takeLease(sessionId, DRIVER_ID);
    const next = { ...stored, attempt: stored.attempt + 1 };
    const record = await records.compareAndSet(stored, next, DRIVER_ID);
    if (record === null) throw new Error('someone else changed the record');
    return { ...session, record };
  }

  startDecode(
    { record, promptIds }: LaneSession,
    more: LaneTurn & LaneHistory = {},
    decode = this.#firstDecode,
  ): Promise<void> {
    return decode.start(record, this.worker.address, promptIds.length, more);
  }

  async appendTurn(
    { record, promptIds }: LaneSession,
    tokenIds: readonly number[],
    more: LaneTurn & Pick<LaneHistory, 'turn'> = {},
    decode = this.#firstDecode,
  ): Promise<number> {
    await this.store.events.beginTurn(record.sessionId);
    return decode.append(record, tokenIds, promptIds.length + tokenIds.length, more);
  }

  /** Events of a session until its turn ends, from the one after `afterSequence` on. */
  async eventsToEnd(session: LaneSession, afterSequence = 0): Promise<SessionEvent[]> {
    const events: SessionEvent[] = [];
    const aborter = new AbortController();
    const stream = this.store.events.follow(
      session.record.sessionId,
      afterSequence,
      aborter.signal,
    );
    for await (const { event } of stream) {
      events.push(event);
      if (event.type === 'finished' || event.type === 'error') break;
    }
    aborter.abort();
    return events;
  }

  async releaseWorker({ record: { sessionId, epoch } }: LaneSession): Promise<number> {
    const request = { sessionId, epoch };
    const { freedBytes } = await unaryCall(this.#workerClient, 'releaseSession', request, CALL);
    return Number(freedBytes);
  }

  releaseDecode({ record }: LaneSession): Promise<number> {
    return this.#firstDecode.release(record.sessionId);
  }

  workerStatus(): Promise<WorkerStatus> {
    return unaryCall(this.#workerClient, 'getStatus', {}, CALL);
  }

  decodeStatus(): Promise<DecodeStatus> {
    return this.#firstDecode.status();
  }

  /** Ends the worker by a signal and starts another one under the same name. */
  async restartWorker(signal: 'SIGKILL' | 'SIGTERM'): Promise<number | null> {
    this.worker.child.signal(signal);
    const exitCode = await this.worker.child.exited;
    this.worker = await startMember('worker', this.environment, this.storeDirectory);
    this.#workerClient.close();
    this.#workerClient = makeClient('worker', this.worker.address, null);
    return exitCode.code;
  }

  async stop(): Promise<void> {
    this.#workerClient.close();
    await this.queueEvents.close();
    await this.queue.close();
    await this.store.close();
    await Promise.all([
      stopServiceChild(this.worker, 10_000),
      ...this.#decodes.map((decode) => decode.stop()),
    ]);
    await this.redis.stop();
    rmSync(this.storeDirectory, { recursive: true, force: true });
  }
}

function startMember(
  role: Exclude<ServiceRole, 'router'>,
  place: NodeJS.ProcessEnv,
  storeDirectory: string,
): Promise<ServiceChild> {
  const prefix = role.toUpperCase();
  const environment = {
    ...place,
    [`${prefix}_LISTEN`]: '127.0.0.1:0',
    [`${prefix}_MODEL_DIR`]: NEEDLE_MODEL,
    [`${prefix}_STORE_DIR`]: storeDirectory,
  };
  return startServiceChild(role, environment, 60_000, (_role, line) => {
    process.stderr.write(`${role}: ${line}\n`);
  });
}
