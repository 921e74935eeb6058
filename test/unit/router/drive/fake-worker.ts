import { Worker } from 'bullmq';
import {
  type PrefillJob,
  type PrefillJobResult,
  workerQueueName,
} from '../../../../services/domain/prefill-job.js';
import type { SparseWork } from '../../../../services/domain/sparse-work.js';
import { ServingError } from '../../../../services/domain/serving-error.js';
import { redisOptions } from '../../../../services/platform/redis-url.js';
import type {
  MemberCounters,
  ReusedSegment,
  ReuseSegmentsCall,
  WorkerPeers,
} from '../../../../services/router/drive/peers.js';
import { KV_BYTES_PER_TOKEN, NO_COUNTERS } from './fake-members.js';

/** The segments of a value store, as the workers beside it see them: by session and plan. */
export class FakeValueStore {
  readonly #segments = new Map<string, ReusedSegment[]>();

  add(sessionId: string, epoch: number, segment: ReusedSegment): void {
    const key = `${sessionId}-${String(epoch)}`;
    this.#segments.set(key, [...(this.#segments.get(key) ?? []), segment]);
  }

  has(sessionId: string, epoch: number, beginToken: number): boolean {
    const segments = this.#segments.get(`${sessionId}-${String(epoch)}`) ?? [];
    return segments.some((segment) => segment.beginToken === beginToken);
  }

  /** @throws ServingError SESSION_NOT_FOUND if the source has not all of them */
  link(call: ReuseSegmentsCall): ReusedSegment[] {
    const { sessionId, epoch, sourceSessionId, sourceEpoch, beginToken, endToken } = call;
    const source = this.#segments.get(`${sourceSessionId}-${String(sourceEpoch)}`) ?? [];
    const wanted = source.filter(
      (segment) => segment.beginToken >= beginToken && segment.endToken <= endToken,
    );
    if (wanted.at(0)?.beginToken !== beginToken || wanted.at(-1)?.endToken !== endToken) {
      throw new ServingError('SESSION_NOT_FOUND', 'the source has not all of these segments');
    }
    for (const segment of wanted) this.add(sessionId, epoch, segment);
    return wanted;
  }

  /** Removes what plans up to this one have. */
  release(sessionId: string, epoch: number): void {
    for (let plan = 1; plan <= epoch; plan += 1) {
      this.#segments.delete(`${sessionId}-${String(plan)}`);
    }
  }

  /** All is gone, as after a restart of the host. */
  clear(): void {
    this.#segments.clear();
  }
}

/**
 * A worker's outside: it consumes the real queue, and its jobs end when `gate` lets them or when
 * their session is released.
 */
export class FakeWorker implements WorkerPeers {
  /** Those that it ran: a chunk that is finished answers at once. */
  readonly jobs: PrefillJob[] = [];
  readonly releases: { sessionId: string; epoch: number }[] = [];
  readonly reuses: ReuseSegmentsCall[] = [];
  /** Awaited by every job; a rejection fails it. */
  gate: (job: PrefillJob) => Promise<void> = async () => Promise.resolve();
  /** What a chunk's result says of sparse prefill, also when it was finished before. */
  sparseWork: (job: PrefillJob) => SparseWork | null = () => null;
  readonly #aborts = new Map<string, (error: ServingError) => void>();
  readonly #consumer: Worker<PrefillJob, PrefillJobResult>;
  #killed = false;

  constructor(
    redisUrl: string,
    workerId = 'worker-1',
    readonly valueStore = new FakeValueStore(),
  ) {
    this.#consumer = new Worker<PrefillJob, PrefillJobResult>(
      workerQueueName(workerId),
      async ({ data }) => this.#run(data),
      { connection: redisOptions(redisUrl) },
    );
    this.#consumer.on('error', () => undefined);
  }

  async #run(job: PrefillJob): Promise<PrefillJobResult> {
    const { sessionId, epoch, kind, beginToken, endToken } = job;
    const bytes = (endToken - beginToken) * KV_BYTES_PER_TOKEN;
    const result = {
      beginToken,
      endToken,
      bytes,
      engineMicros: 1,
      sealed: false,
      sparse: this.sparseWork(job),
    };
    if (kind === 'prefill' && this.valueStore.has(sessionId, epoch, beginToken)) {
      return { ...result, alreadyDone: true };
    }
    this.jobs.push(job);
    const aborted = new Promise<never>((_, reject) => {
      this.#aborts.set(sessionId, reject);
    });
    try {
      await Promise.race([this.gate(job), aborted]);
    } catch (error) {
      if (!(error instanceof ServingError)) throw error;
      throw new Error(JSON.stringify({ code: error.code, message: error.message }));
    }
    if (kind === 'prefill') this.valueStore.add(sessionId, epoch, { beginToken, endToken, bytes });
    return { ...result, alreadyDone: false };
  }

  async releaseSession(_address: string, sessionId: string, epoch: number): Promise<void> {
    this.#refuseIfKilled();
    this.releases.push({ sessionId, epoch });
    this.valueStore.release(sessionId, epoch);
    this.#aborts.get(sessionId)?.(new ServingError('CANCELLED', 'released'));
    return Promise.resolve();
  }

  async reuseSegments(_address: string, call: ReuseSegmentsCall): Promise<ReusedSegment[]> {
    this.#refuseIfKilled();
    this.reuses.push(call);
    return Promise.resolve().then(() => this.valueStore.link(call));
  }

  async getStatus(): Promise<MemberCounters> {
    this.#refuseIfKilled();
    return Promise.resolve(NO_COUNTERS);
  }

  /** From now on it takes no job, but ends the one that it runs. */
  async drain(): Promise<void> {
    await this.#consumer.pause(true);
  }

  /** Its next life, under its name. */
  async restart(): Promise<void> {
    await this.#consumer.resume();
  }

  /** From now on it takes no job and answers no call. */
  async kill(): Promise<void> {
    this.#killed = true;
    await this.#consumer.close(true);
  }

  async close(): Promise<void> {
    await this.#consumer.close(true);
  }

  #refuseIfKilled(): void {
    if (this.#killed) throw new ServingError('WORKER_LOST', 'connection refused');
  }
}
