import { randomBytes } from 'node:crypto';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { type Job, Queue, QueueEvents } from 'bullmq';
import { Redis } from 'ioredis';
import type { ReuseSegmentsRequest } from '../../proto/gen/longshadow/worker/v1/ReuseSegmentsRequest.js';
import type { ReuseSegmentsResponse__Output } from '../../proto/gen/longshadow/worker/v1/ReuseSegmentsResponse.js';
import type { GetStatusResponse__Output } from '../../proto/gen/longshadow/worker/v1/GetStatusResponse.js';
import {
  type ServiceChild,
  startServiceChild,
  stopServiceChild,
} from '../../services/cli/cluster/service-child.js';
import type { FleetMember } from '../../services/domain/fleet.js';
import {
  PREFILL_JOB_SCHEMA_VERSION,
  type PrefillJob,
  prefillJobId,
  type PrefillJobResult,
  workerQueueName,
} from '../../services/domain/prefill-job.js';
import type { ResolvedPolicy } from '../../services/domain/policy.js';
import type { PromptLogprob } from '../../services/domain/session-event.js';
import type { SessionRecord } from '../../services/domain/session-record.js';
import type { TokenRange } from '../../services/domain/token-range.js';
import { sessionFingerprint } from '../../services/platform/fingerprint.js';
import { withChecksum } from '../../services/platform/job-checksum.js';
import { makeLog } from '../../services/platform/log.js';
import { redisOptions } from '../../services/platform/redis-url.js';
import { makeClient, unaryCall } from '../../services/platform/rpc/client.js';
import {
  openSessionStore,
  type OpenSessionStore,
} from '../../services/platform/session-store/open-session-store.js';
import { NEEDLE_MODEL } from './cluster.js';
import { jobEnd } from './job-end.js';
import { poll } from './poll.js';
import { type TestRedis, startRedis } from './redis-server.js';
import { newRecord } from './session-record.js';

const DRIVER_ID = 'driver-test';
const CALL = { timeoutMs: 20_000 };

/** A session as a test drives it: its record as stored last, and its prompt. */
export interface WorkerSession {
  record: SessionRecord;
  readonly promptIds: Uint32Array;
}

/** A real worker process with its queue, as a driver sees it. */
export class LaneWorker {
  readonly #client;
  readonly #ends = new Map<string, Promise<PrefillJobResult>>();

  private constructor(
    readonly workerId: string,
    readonly service: ServiceChild,
    readonly queue: Queue<PrefillJob, PrefillJobResult>,
    readonly events: QueueEvents,
  ) {
    this.#client = makeClient('worker', service.address, null);
  }

  static async start(
    workerId: string,
    redisUrl: string,
    environment: NodeJS.ProcessEnv,
  ): Promise<LaneWorker> {
    const place = {
      ...{ ...process.env, LONGSHADOW_EXIT_WITH_PARENT: '1', LONGSHADOW_LOG_LEVEL: 'fatal' },
      ...{ REDIS_URL: redisUrl, WORKER_ID: workerId, WORKER_LISTEN: '127.0.0.1:0' },
      ...{ WORKER_MODEL_DIR: NEEDLE_MODEL, WORKER_THREADS: '2', ...environment },
    };
    const service = await startServiceChild('worker', place, 60_000, (_role, line) => {
      process.stderr.write(`${workerId}: ${line}\n`);
    });
    const connection = redisOptions(redisUrl);
    const name = workerQueueName(workerId);
    const events = new QueueEvents(name, { connection });
    await events.waitUntilReady();
    return new LaneWorker(workerId, service, new Queue(name, { connection }), events);
  }

  /** Puts a chunk's job on the queue; a seal's where the range is empty. */
  async add(
    { record, promptIds }: WorkerSession,
    { beginToken, endToken }: TokenRange,
    more: Partial<PrefillJob> = {},
    priority = 0,
  ): Promise<Job<PrefillJob, PrefillJobResult>> {
    const data: PrefillJob = {
      schemaVersion: PREFILL_JOB_SCHEMA_VERSION,
      kind: beginToken === endToken ? 'seal' : 'prefill',
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
    this.#ends.set(jobId, jobEnd(this.events, jobId));
    const options = { jobId, removeOnComplete: true, removeOnFail: true };
    return this.queue.add(data.kind, withChecksum(data), { ...options, priority });
  }

  /** What a job returns; rejects with an Error whose message is the job's failure as JSON. */
  async ended({ id = '' }: Job<PrefillJob, PrefillJobResult>): Promise<PrefillJobResult> {
    const end = this.#ends.get(id);
    if (end === undefined) throw new Error(`job ${id} was not added here`);
    return end;
  }

  async run(...added: Parameters<LaneWorker['add']>): Promise<PrefillJobResult> {
    return this.ended(await this.add(...added));
  }

  reuse(request: ReuseSegmentsRequest): Promise<ReuseSegmentsResponse__Output> {
    return unaryCall(this.#client, 'reuseSegments', request, CALL);
  }

  async release({ record: { sessionId, epoch } }: WorkerSession): Promise<void> {
    await unaryCall(this.#client, 'releaseSession', { sessionId, epoch }, CALL);
  }

  status(): Promise<GetStatusResponse__Output> {
    return unaryCall(this.#client, 'getStatus', {}, CALL);
  }

  signal(name: NodeJS.Signals): void {
    this.service.child.signal(name);
  }

  async stop(): Promise<void> {
    this.signal('SIGCONT');
    this.#client.close();
    await this.events.close();
    await this.queue.close();
    await stopServiceChild(this.service, 10_000);
  }
}

/** Real workers on one value store and a real Redis. The test is the driver. */
export class WorkerLane {
  readonly #workers: LaneWorker[] = [];

  private constructor(
    readonly redis: TestRedis,
    readonly store: OpenSessionStore,
    readonly command: Redis,
    readonly storeDirectory: string,
  ) {}

  /** @param storeDirectory default: one in shared memory, made and removed by the lane */
  static async start(storeDirectory?: string): Promise<WorkerLane> {
    const redis = await startRedis();
    const store = await openSessionStore(redis.url, makeLog('test', 'silent'));
    const directory = storeDirectory ?? mkdtempSync('/dev/shm/longshadow-test-');
    return new WorkerLane(redis, store, new Redis(redisOptions(redis.url)), directory);
  }

  async addWorker(workerId: string, environment: NodeJS.ProcessEnv = {}): Promise<LaneWorker> {
    const place = { WORKER_STORE_DIR: this.storeDirectory, ...environment };
    const worker = await LaneWorker.start(workerId, this.redis.url, place);
    this.#workers.push(worker);
    return worker;
  }

  async member(workerId: string): Promise<FleetMember | null> {
    const members = await this.store.fleet.members();
    return members.find(({ memberId }) => memberId === workerId) ?? null;
  }

  /** Creates a session's record, and the token ids of each of `chunks`. */
  async open(
    promptIds: readonly number[],
    chunks: readonly TokenRange[],
    more: Partial<SessionRecord> = {},
  ): Promise<WorkerSession> {
    const [member] = await this.store.fleet.members();
    if (member === undefined) throw new Error('no worker has announced itself');
    const { modelFingerprint, dtype } = member;
    const sessionId = randomBytes(16).toString('hex');
    const policy: ResolvedPolicy = {
      prefillPolicy: 'dense',
      cachePolicy: 'full',
      dtype,
      cutRule: 'cpu',
      sparse: null,
    };
    const record: SessionRecord = {
      ...newRecord(sessionId),
      state: 'prefilling',
      ...{ policy, modelFingerprint, lane: [member.memberId] },
      fingerprint: fingerprintOf(member, sessionId, 1, policy),
      ...{ receivedTokens: promptIds.length, uploadClosed: true, segments: [], origins: [] },
      ...more,
    };
    await this.store.records.create(record, DRIVER_ID);
    const ids = Uint32Array.from(promptIds);
    for (const { beginToken, endToken } of chunks) {
      await this.store.tokenIds.put(sessionId, beginToken, ids.slice(beginToken, endToken));
    }
    return { record, promptIds: ids };
  }

  /** Changes a session's record; a new epoch brings its fingerprint. */
  async change(session: WorkerSession, change: Partial<SessionRecord>): Promise<void> {
    const { records, fleet } = this.store;
    const { sessionId, policy } = session.record;
    const [member] = await fleet.members();
    if (member === undefined) throw new Error('no worker has announced itself');
    await records.takeLease(sessionId, DRIVER_ID);
    const epoch = change.epoch ?? session.record.epoch;
    const fingerprint = fingerprintOf(member, sessionId, epoch, policy);
    const next = { ...session.record, fingerprint, ...change };
    const stored = await records.compareAndSet(session.record, next, DRIVER_ID);
    if (stored === null) throw new Error('someone else changed the record');
    session.record = stored;
  }

  /** Log-probabilities that the session's events told, by position. */
  async logprobs({ record }: WorkerSession): Promise<PromptLogprob[]> {
    const events = await this.store.events.read(record.sessionId, 0, 100_000);
    return events.flatMap(({ event }) => (event.type === 'progress' ? event.promptLogprobs : []));
  }

  /** Files of a session in the store; none if it has no folder. */
  files({ record: { sessionId } }: WorkerSession): string[] {
    if (!readdirSync(this.storeDirectory).includes(sessionId)) return [];
    return readdirSync(join(this.storeDirectory, sessionId)).sort();
  }

  /** Waits until the chunk that begins at a token is being written. */
  async isRunning(session: WorkerSession, beginToken: number): Promise<void> {
    const unfinished = `${String(session.record.epoch)}-0-${String(beginToken)}-`;
    await poll(
      () => this.files(session),
      (files) => files.some((name) => name.startsWith(unfinished) && name.includes('.tmp-')),
      60_000,
      2,
    );
  }

  async stop(): Promise<void> {
    await Promise.all(this.#workers.map(async (worker) => worker.stop()));
    this.command.disconnect();
    await this.store.close();
    await this.redis.stop();
    rmSync(this.storeDirectory, { recursive: true, force: true });
  }
}

function fingerprintOf(
  { modelFingerprint, layerBegin, layerEnd }: FleetMember,
  sessionId: string,
  epoch: number,
  policy: SessionRecord['policy'],
): string {
  const bytes = { modelFingerprint, policy, sessionId, epoch, layerBegin, layerEnd };
  return sessionFingerprint(bytes);
}
