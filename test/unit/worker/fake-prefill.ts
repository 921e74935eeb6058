import { setImmediate as tick } from 'node:timers/promises';
import {
  NativeError,
  type PrefillChunkRequest,
  type PrefillChunkResult,
  type PrefillSessionHandle,
  type SegmentInfo,
  type SessionKey,
  type SparsePolicy,
} from '../../../native/ts/index.js';
import {
  PREFILL_JOB_SCHEMA_VERSION,
  type PrefillJob,
  prefillJobId,
  type PrefillJobResult,
} from '../../../services/domain/prefill-job.js';
import type { ResolvedPolicy } from '../../../services/domain/policy.js';
import type { SessionEvent } from '../../../services/domain/session-event.js';
import { type ErrorCode, ServingError } from '../../../services/domain/serving-error.js';
import {
  SESSION_SCHEMA_VERSION,
  type SessionRecord,
} from '../../../services/domain/session-record.js';
import type { AppendOptions } from '../../../services/domain/session-store.js';
import { PrefillJobs } from '../../../services/worker/prefill/prefill-jobs.js';
import { PrefillSessions } from '../../../services/worker/prefill/prefill-sessions.js';
import { NO_SPARSE_STATS } from '../../support/sparse-fixture.js';

export const SESSION = 'a'.repeat(32);
export const MODEL = 'b'.repeat(32);

interface Chunk {
  readonly request: PrefillChunkRequest;
  readonly progress: (share: number) => void;
  readonly finish: () => void;
  readonly fail: (error: Error) => void;
}

/** A worker's prefill around a stand-in for the engine, whose chunks end when the test says so. */
export function makeWorld() {
  /** Segments on disk, by `<session> <epoch>`: they outlive a handle. */
  const disk = new Map<string, SegmentInfo[]>();
  const chunks: Chunk[] = [];
  const state = {
    opened: 0,
    closed: 0,
    sealed: 0,
    nowUnixMs: 1_000_000,
    removed: [] as [string, number][],
    cancelledMs: [] as number[],
    record: sessionRecord({}) as SessionRecord | null,
    appendAnswer: null as 'stale-epoch' | 'ended' | 'unknown' | null,
    /** Calls of Redis that fail from now on, one after the other. */
    redisFailures: 0,
    pausedMs: [] as number[],
    keys: [] as SessionKey[],
    /** What sessions were opened with. */
    sparse: [] as (SparsePolicy | null)[],
    sparseOf: (_policy: ResolvedPolicy): SparsePolicy | null => null,
    /** Of the chunks that end from now on. */
    stats: NO_SPARSE_STATS,
    events: [] as SessionEvent[],
    appendOptions: [] as (AppendOptions | undefined)[],
    errors: [] as unknown[],
    failedJobs: [] as [string, string][],
  };
  const handles = new Map<PrefillSessionHandle, { segments: SegmentInfo[]; cancel: () => void }>();
  const of = (handle: PrefillSessionHandle) => {
    const held = handles.get(handle);
    if (held === undefined) throw new Error('the handle is closed');
    return held;
  };
  const engine = {
    open(sessionKey: SessionKey, sparse: SparsePolicy | null): PrefillSessionHandle {
      state.keys.push(sessionKey);
      state.sparse.push(sparse);
      const { sessionId, epoch } = sessionKey;
      const key = `${sessionId} ${String(epoch)}`;
      const segments = disk.get(key) ?? [];
      disk.set(key, segments);
      const handle = { type: 'prefill-session' } as const;
      handles.set(handle, { segments, cancel: () => undefined });
      state.opened++;
      return handle;
    },
    segments: (handle: PrefillSessionHandle) => of(handle).segments,
    prefillChunk(
      handle: PrefillSessionHandle,
      request: PrefillChunkRequest,
      progress: (share: number) => void,
    ): Promise<PrefillChunkResult> {
      const held = of(handle);
      return new Promise((resolve, reject) => {
        held.cancel = () => {
          reject(new NativeError('CANCELLED', 'cancelled'));
        };
        const finish = (): void => {
          const { beginToken, tokenIds, logprobPositions } = request;
          const endToken = beginToken + tokenIds.length;
          const segment = { beginToken, endToken, bytes: 10 * tokenIds.length };
          held.segments.push(segment);
          resolve({
            segment,
            logprobs: new Float32Array(logprobPositions.length).fill(-0.5),
            ranks: new Uint32Array(logprobPositions.length).fill(4),
            engineMicros: 2000,
            attentionMicros: 500,
            sparse: state.stats,
          });
        };
        chunks.push({ request, progress, finish, fail: reject });
      });
    },
    seal(handle: PrefillSessionHandle): Promise<Uint8Array> {
      state.sealed++;
      return Promise.resolve(Uint8Array.of(of(handle).segments.length));
    },
    cancel: (handle: PrefillSessionHandle) => {
      of(handle).cancel();
    },
    close: (handle: PrefillSessionHandle) => {
      of(handle);
      handles.delete(handle);
      state.closed++;
      return Promise.resolve();
    },
  };
  const redis = <T>(answer: () => T): Promise<T> => {
    if (state.redisFailures === 0) return Promise.resolve(answer());
    state.redisFailures--;
    return Promise.reject(new ServingError('REDIS_UNAVAILABLE', 'Redis is away'));
  };
  const sessions = new PrefillSessions({
    engine,
    removeFiles: (sessionId, throughEpoch) => {
      state.removed.push([sessionId, throughEpoch]);
      return Promise.resolve(77);
    },
    nowMs: () => state.nowUnixMs,
    onCancelled: (ms) => state.cancelledMs.push(ms),
  });
  const jobs = new PrefillJobs({
    engine,
    sessions,
    store: {
      records: { load: () => redis(() => state.record) } as never,
      tokenIds: {
        put: () => Promise.resolve(),
        get: (_session, begin, end) =>
          redis(() => Uint32Array.from({ length: end - begin }, (_, at) => begin + at)),
      },
      events: {
        append: (
          _session: string,
          _epoch: number,
          event: SessionEvent,
          options?: AppendOptions,
        ) => {
          state.appendOptions.push(options);
          return redis(() => {
            state.events.push(event);
            return state.appendAnswer ?? state.events.length;
          });
        },
      } as never,
    },
    stage: 0,
    layerBegin: 0,
    modelFingerprint: MODEL,
    sparsePolicy: (policy) => state.sparseOf(policy),
    expectedFingerprint: ({ epoch }) => String(epoch).repeat(32),
    nowUnixMs: () => state.nowUnixMs,
    pause: (ms) => {
      state.pausedMs.push(ms);
      state.nowUnixMs += ms;
      return Promise.resolve();
    },
    onJob: {
      jobStarted: () => undefined,
      jobEnded: () => undefined,
      jobFailed: (kind, code) => state.failedJobs.push([kind, code]),
      chunkRan: () => undefined,
    },
    onError: (error) => state.errors.push(error),
  });
  /** Runs a job as its queue would hand it out. */
  const run = (data: PrefillJob, addedUnixMs = 0): Promise<PrefillJobResult> =>
    jobs.run({ id: prefillJobId(data), data, addedUnixMs });
  return { jobs, run, engine, sessions, chunks, disk, state };
}

export function job(more: Partial<PrefillJob>): PrefillJob {
  const epoch = more.epoch ?? 1;
  return {
    schemaVersion: PREFILL_JOB_SCHEMA_VERSION,
    kind: 'prefill',
    sessionId: SESSION,
    epoch,
    stage: 0,
    modelFingerprint: MODEL,
    fingerprint: String(epoch).repeat(32),
    beginToken: 0,
    endToken: 1024,
    nextTokenId: 1024,
    promptLogprobs: [],
    cachedTokens: 0,
    totalTokens: null,
    deadlineUnixMs: null,
    traceparent: null,
    ...more,
  };
}

export function sessionRecord(more: Partial<SessionRecord>): SessionRecord {
  const epoch = more.epoch ?? 1;
  return {
    schemaVersion: SESSION_SCHEMA_VERSION,
    sessionId: SESSION,
    revision: 1,
    state: 'prefilling',
    epoch,
    attempt: 0,
    lane: ['worker-1'],
    decodeId: null,
    turn: {
      number: 0,
      afterSequence: 0,
      beginToken: 0,
      endToken: 1024,
      cachedTokens: 0,
      promptReran: false,
      sparseWork: null,
      admittedUnixMs: 0,
      prefilledUnixMs: null,
    },
    model: 'needle',
    modelFingerprint: MODEL,
    policy: {
      prefillPolicy: 'dense',
      cachePolicy: 'full',
      dtype: 'bf16',
      cutRule: 'cpu',
      sparse: null,
    },
    fingerprint: String(epoch).repeat(32),
    generation: {
      sampling: { temperature: 0, topK: 0, topP: 1, seed: '0' },
      stopping: { maxNewTokens: 1, stopTexts: [], ignoreEos: false },
      forcedTokenIds: [],
      promptLogprobs: [],
    },
    receivedTokens: 1024,
    uploadClosed: true,
    sealedTokens: 0,
    historyTokens: 0,
    answers: [],
    turnCuts: [],
    nextToken: 0,
    segments: [],
    origins: [],
    dataLosses: 0,
    maxPromptTokens: 4096,
    reservation: null,
    tenant: '',
    priority: 'normal',
    traceparent: null,
    deadlineUnixMs: null,
    onDisconnect: 'cancel',
    resumeGraceMs: 0,
    keepSessionMs: 0,
    keepExactKeys: false,
    keepUntilUnixMs: null,
    createdUnixMs: 0,
    ...more,
  };
}

/** Lets what is ready to run do so. */
export async function settle(): Promise<void> {
  for (let turn = 0; turn < 6; turn++) await tick();
}

export function refusedWith(code: ErrorCode) {
  return (error: unknown): boolean => error instanceof ServingError && error.code === code;
}
