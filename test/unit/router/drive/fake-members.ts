import { Worker } from 'bullmq';
import type { FleetMember } from '../../../../services/domain/fleet.js';
import {
  type PrefillJob,
  type PrefillJobResult,
  workerQueueName,
} from '../../../../services/domain/prefill-job.js';
import { ServingError } from '../../../../services/domain/serving-error.js';
import type { SessionStore } from '../../../../services/domain/session-store.js';
import { redisOptions } from '../../../../services/platform/redis-url.js';
import type {
  AppendTurnCall,
  DecodePeers,
  MemberCounters,
  ReusedSegment,
  ReuseSegmentsCall,
  StartSessionCall,
  TurnContext,
  WorkerPeers,
} from '../../../../services/router/drive/peers.js';

export const KV_BYTES_PER_TOKEN = 1_000;

export function fakeMember(
  role: 'worker' | 'decode',
  change: Partial<FleetMember> = {},
): FleetMember {
  return {
    memberId: `${role}-1`,
    role,
    address: `${role}.test:1`,
    model: 'needle',
    modelFingerprint: 'a'.repeat(32),
    dtype: 'fp32',
    device: 'cpu',
    instructionSet: 'avx2',
    stage: 0,
    stages: 1,
    layerBegin: 0,
    layerEnd: 6,
    vocabSize: 4_096,
    maxPositions: 1_048_576,
    eosTokenIds: [3],
    kvBytesPerToken: KV_BYTES_PER_TOKEN,
    storeId: 'store-1',
    storeCapacityBytes: 2_000_000_000,
    storeFreeBytes: 2_000_000_000,
    activeSessions: 0,
    maxSessions: 0,
    privateCapacityBytes: 0,
    draining: false,
    startedUnixMs: 1,
    ...change,
  };
}

const NO_COUNTERS: MemberCounters = {
  sessions: 0,
  storeFiles: 0,
  storeFileBytes: 0,
  mappings: 0,
  mappedBytes: 0,
  privateBytes: 0,
  residentBytes: 0,
  prefillChunks: 0,
  decodeCalls: 0,
  decodeSteps: 0,
};

/**
 * A worker's outside: it consumes the real queue, and its jobs end when `gate` lets them or when
 * their session is released.
 */
export class FakeWorker implements WorkerPeers {
  readonly jobs: PrefillJob[] = [];
  readonly releases: { sessionId: string; epoch: number }[] = [];
  /** Awaited by every job; a rejection fails it. */
  gate: (job: PrefillJob) => Promise<void> = async () => Promise.resolve();
  readonly #aborts = new Map<string, (error: ServingError) => void>();
  readonly #consumer: Worker<PrefillJob, PrefillJobResult>;

  constructor(redisUrl: string, workerId = 'worker-1') {
    this.#consumer = new Worker<PrefillJob, PrefillJobResult>(
      workerQueueName(workerId),
      async ({ data }) => this.#run(data),
      { connection: redisOptions(redisUrl) },
    );
    this.#consumer.on('error', () => undefined);
  }

  async #run(job: PrefillJob): Promise<PrefillJobResult> {
    this.jobs.push(job);
    const aborted = new Promise<never>((_, reject) => {
      this.#aborts.set(job.sessionId, reject);
    });
    try {
      await Promise.race([this.gate(job), aborted]);
    } catch (error) {
      if (!(error instanceof ServingError)) throw error;
      throw new Error(JSON.stringify({ code: error.code, message: error.message }));
    }
    const { beginToken, endToken } = job;
    const bytes = (endToken - beginToken) * KV_BYTES_PER_TOKEN;
    return { beginToken, endToken, bytes, engineMicros: 1, alreadyDone: false };
  }

  async releaseSession(_address: string, sessionId: string, epoch: number): Promise<void> {
    this.releases.push({ sessionId, epoch });
    this.#aborts.get(sessionId)?.(new ServingError('CANCELLED', 'released'));
    return Promise.resolve();
  }

  /** What linking answers: by default the source has gone. */
  reuse: (call: ReuseSegmentsCall) => readonly ReusedSegment[] = () => {
    throw new ServingError('SESSION_NOT_FOUND', 'the source is not here');
  };

  async reuseSegments(
    _address: string,
    call: ReuseSegmentsCall,
  ): Promise<readonly ReusedSegment[]> {
    return Promise.resolve().then(() => this.reuse(call));
  }

  async getStatus(): Promise<MemberCounters> {
    return Promise.resolve(NO_COUNTERS);
  }

  async close(): Promise<void> {
    await this.#consumer.close(true);
  }
}

/** A decode's outside: it appends `answer` to the session's stream, unless `gate` holds it. */
export class FakeDecode implements DecodePeers {
  readonly starts: StartSessionCall[] = [];
  readonly turns: AppendTurnCall[] = [];
  readonly releases: string[] = [];
  answer: readonly number[] = [10, 11, 3];
  gate: () => Promise<void> = async () => Promise.resolve();
  /** Awaited before StartSession answers. */
  startGate: (signal: AbortSignal) => Promise<void> = async () => Promise.resolve();

  constructor(private readonly store: SessionStore) {}

  async startSession(_address: string, call: StartSessionCall, signal: AbortSignal): Promise<void> {
    this.starts.push(call);
    await this.startGate(signal);
    this.#answer(call.sessionId, call.epoch, call.context).catch(() => undefined);
  }

  async appendTurn(_address: string, call: AppendTurnCall): Promise<number> {
    this.turns.push(call);
    this.#answer(call.sessionId, call.epoch, call.context).catch(() => undefined);
    return Promise.resolve(call.context.cachedTokens);
  }

  async releaseSession(_address: string, sessionId: string): Promise<void> {
    this.releases.push(sessionId);
    return Promise.resolve();
  }

  async getStatus(): Promise<MemberCounters> {
    return Promise.resolve(NO_COUNTERS);
  }

  async #answer(sessionId: string, epoch: number, context: TurnContext): Promise<void> {
    const { events } = this.store;
    for (const [index, tokenId] of this.answer.entries()) {
      await this.gate();
      await events.append(sessionId, epoch, {
        type: 'token',
        index,
        tokenId,
        text: `t${String(tokenId)} `,
        logprob: -1,
        rank: 1,
      });
    }
    const { policy, promptTokens, cachedTokens, workerIds, segmentBytes, promptReran } = context;
    await events.append(sessionId, epoch, {
      type: 'finished',
      finishReason: 'stop',
      text: '',
      keptUntilUnixMs: context.keepSessionMs === 0 ? null : Date.now() + context.keepSessionMs,
      report: {
        ...{ policy, promptTokens, cachedTokens, workerIds, segmentBytes, promptReran },
        completionTokens: this.answer.length,
        timeToFirstTokenMs: 1,
        prefillMs: 1,
        decodeMs: 1,
        privateBytes: 0,
        decodeId: 'decode-1',
      },
    });
  }
}
