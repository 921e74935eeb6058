import type { PrefillChunkResult, SessionKey, SparsePolicy } from '../../../native/ts/index.js';
import { remainingPrefillMs, type SparseLaw } from '../../domain/prefill-cost.js';
import { type PrefillJob, prefillJobId, type PrefillJobResult } from '../../domain/prefill-job.js';
import type { ResolvedPolicy } from '../../domain/policy.js';
import { type ErrorCode, ServingError } from '../../domain/serving-error.js';
import type { SessionRecord } from '../../domain/session-record.js';
import type { SessionStore } from '../../domain/session-store.js';
import { denseFromToken } from '../../domain/sparse-policy.js';
import { toServingError } from '../../engine-host/native-error-code.js';
import { chunkSparseWork } from './chunk-sparse-work.js';
import { finishedChunk, missingChunks } from './finished-chunk.js';
import { parsePrefillJob } from './parse-prefill-job.js';
import type { PrefillEngine } from './prefill-engine.js';
import type { Interruption, PrefillSession } from './prefill-session.js';
import type { PrefillSessions } from './prefill-sessions.js';
import { ProgressReporter, type Refusal } from './progress-reporter.js';
import { promptLogprobs, wantedPositions } from './prompt-logprobs.js';
import { refuseForeign, refuseOver, refuseUnreserved } from './refuse-job.js';
import { retryOverGap } from './retry-over-gap.js';
import { sparseLaw } from './sparse-law.js';

export interface PrefillJobsOptions {
  readonly engine: PrefillEngine;
  readonly sessions: PrefillSessions;
  readonly store: Pick<SessionStore, 'records' | 'events' | 'tokenIds'>;
  readonly stage: number;
  /** Of the model's layers, the stage's first one. */
  readonly layerBegin: number;
  readonly modelFingerprint: string;
  /** What the session's bytes must carry, computed here from the engine that is loaded. */
  readonly expectedFingerprint: (
    session: { sessionId: string; epoch: number },
    policy: ResolvedPolicy,
  ) => string;
  /** As the engine takes it. @throws ServingError WORKER_LOST for patterns that are not this worker's */
  readonly sparsePolicy: (policy: ResolvedPolicy) => SparsePolicy | null;
  readonly nowUnixMs: () => number;
  readonly pause: (ms: number) => Promise<void>;
  readonly onJob: {
    readonly jobStarted: (kind: string, waitMs: number) => void;
    readonly jobEnded: (kind: string, seconds: number) => void;
    readonly jobFailed: (kind: string, code: ErrorCode) => void;
    readonly chunkRan: (chunk: PrefillChunkResult) => void;
  };
  readonly onError: (error: unknown) => void;
}

/** A job as its queue hands it out. */
export interface QueuedJob {
  readonly id: string;
  /** Its payload, unchecked. */
  readonly data: unknown;
  /** When it was put on the queue. */
  readonly addedUnixMs: number;
}

/** A checked job, and what the record of its session says. */
interface FitJob {
  readonly job: PrefillJob;
  readonly record: SessionRecord;
  readonly addedUnixMs: number;
  /** Null for dense prefill. */
  readonly sparse: SparseLaw | null;
}

/** What an interrupted chunk's stream said, as its job's failure. */
const CODE_BY_REFUSAL: Readonly<Record<Refusal, Interruption>> = {
  'stale-epoch': 'STALE_EPOCH',
  ended: 'SESSION_ENDED',
  unknown: 'SESSION_ENDED',
};

/**
 * Runs the jobs of this worker's queue. The idempotence point of prefill: a finished chunk answers
 * at once, a running one is joined.
 */
export class PrefillJobs {
  constructor(private readonly options: PrefillJobsOptions) {}

  /** @throws ServingError */
  async run({ id, data, addedUnixMs }: QueuedJob): Promise<PrefillJobResult> {
    let kind = 'unreadable';
    try {
      const job = parsePrefillJob(id, data);
      kind = job.kind;
      return await this.#run(job, addedUnixMs);
    } catch (error) {
      this.options.onJob.jobFailed(kind, toServingError(error).code);
      throw error;
    }
  }

  async #run(job: PrefillJob, addedUnixMs: number): Promise<PrefillJobResult> {
    const record = await this.#refuseUnfit(job);
    const { sessions, sparsePolicy } = this.options;
    const policy = sparsePolicy(record.policy);
    const session = await sessions.open(sessionKey(job, record), policy);
    const name = `${job.kind} ${String(job.beginToken)}`;
    const startedMs = performance.now();
    this.options.onJob.jobStarted(job.kind, Math.max(0, this.options.nowUnixMs() - addedUnixMs));
    const result = await session.once(name, () =>
      job.kind === 'seal'
        ? this.#seal(session, job.endToken)
        : this.#prefillAndSeal(session, { job, record, addedUnixMs, sparse: sparseLaw(policy) }),
    );
    this.options.onJob.jobEnded(job.kind, (performance.now() - startedMs) / 1000);
    return result;
  }

  /**
   * The hand-off of a session whose prompt is finished here; sealed now if a restart lost it.
   *
   * @throws ServingError SESSION_NOT_FOUND, STALE_EPOCH, SESSION_BUSY while chunks are missing
   */
  async handOff(sessionId: string, epoch: number): Promise<Uint8Array> {
    const { sessions, store } = this.options;
    sessions.refuseStale(sessionId, epoch);
    const held = sessions.find(sessionId);
    if (held?.epoch === epoch && held.handOff !== null) return held.handOff;
    const record = refuseOver(await store.records.load(sessionId), epoch);
    if (!record.uploadClosed) {
      throw new ServingError('SESSION_BUSY', 'the session is not sealed: its upload is open');
    }
    const { stage, expectedFingerprint } = this.options;
    const fingerprint = expectedFingerprint({ sessionId, epoch }, record.policy);
    const key = { sessionId, epoch, stage, fingerprint };
    const sparse = this.options.sparsePolicy(record.policy);
    const session = await sessions.open(sessionKey(key, record), sparse);
    await session.once(`seal ${String(record.receivedTokens)}`, () =>
      this.#seal(session, record.receivedTokens),
    );
    if (session.handOff === null) throw new Error('a seal left no hand-off');
    return session.handOff;
  }

  async #refuseUnfit(job: PrefillJob): Promise<SessionRecord> {
    const { sessions, store, modelFingerprint, stage, expectedFingerprint } = this.options;
    if (job.stage !== stage) {
      throw new ServingError('JOB_CORRUPT', `this worker hosts stage ${String(stage)}`);
    }
    sessions.refuseStale(job.sessionId, job.epoch);
    this.#refuseLate(job);
    const load = async (): Promise<SessionRecord | null> => store.records.load(job.sessionId);
    const record = refuseOver(await this.#overGap(load), job.epoch);
    const fingerprint = expectedFingerprint(job, record.policy);
    refuseForeign(job, record, { modelFingerprint, fingerprint });
    refuseUnreserved(record, job.endToken);
    return record;
  }

  #refuseLate({ deadlineUnixMs }: PrefillJob): void {
    if (deadlineUnixMs !== null && this.options.nowUnixMs() >= deadlineUnixMs) {
      throw new ServingError('DEADLINE_EXCEEDED', 'the session reached its deadline in prefill');
    }
  }

  /** A seal of its own would wait behind the next chunk of whoever else is on the queue. */
  async #prefillAndSeal(session: PrefillSession, fit: FitJob): Promise<PrefillJobResult> {
    const done = await this.#prefill(session, fit);
    const { endToken, totalTokens } = fit.job;
    if (endToken !== totalTokens) return done;
    const startedMs = performance.now();
    await session.once(`seal ${String(endToken)}`, () => this.#seal(session, endToken));
    this.options.onJob.jobEnded('seal', (performance.now() - startedMs) / 1000);
    return { ...done, sealed: true };
  }

  async #prefill(session: PrefillSession, fit: FitJob): Promise<PrefillJobResult> {
    const { engine, store, layerBegin } = this.options;
    const { job, record, addedUnixMs } = fit;
    const { sessionId, beginToken, endToken } = job;
    const done = finishedChunk(engine.segments(session.handle), job);
    const reporter = this.#reporter(session, fit, done !== null);
    if (done !== null) {
      await this.#report(session, reporter, beginToken);
      return this.#told(session, job, { bytes: done.bytes, engineMicros: 0, alreadyDone: true });
    }
    const tokenIds = await this.#overGap(
      async () => store.tokenIds.get(sessionId, beginToken, endToken),
      session,
    );
    const isSparse = record.policy.sparse !== null;
    const request = {
      tokenIds,
      beginToken,
      nextTokenId: job.nextTokenId,
      logprobPositions: wantedPositions(job),
      denseFromToken: isSparse ? denseFromToken(job) : null,
    };
    const result = await this.#interruptible(session, job, () =>
      engine.prefillChunk(session.handle, request, (share) => {
        reporter.update(share);
      }),
    );
    await reporter.settle();
    session.finished.push({
      beginToken,
      endToken,
      engineMicros: result.engineMicros,
      attentionMicros: result.attentionMicros,
      wallMicros: Math.max(0, this.options.nowUnixMs() - addedUnixMs) * 1000,
    });
    if (isSparse) session.sparseWork.set(beginToken, chunkSparseWork(result, layerBegin));
    this.options.onJob.chunkRan(result);
    session.unreported.set(beginToken, promptLogprobs(request, result));
    await this.#report(session, reporter, beginToken);
    const { bytes } = result.segment;
    const { engineMicros } = result;
    return this.#told(session, job, { bytes, engineMicros, alreadyDone: false });
  }

  #told(
    { sparseWork }: PrefillSession,
    { beginToken, endToken }: PrefillJob,
    how: Pick<PrefillJobResult, 'bytes' | 'engineMicros' | 'alreadyDone'>,
  ): PrefillJobResult {
    const sparse = sparseWork.get(beginToken) ?? null;
    return { beginToken, endToken, ...how, sparse, sealed: false };
  }

  /**
   * A chunk's last progress. If Redis stays away the job fails, and its log-probabilities are told
   * only if it is put on the queue again.
   */
  async #report(
    session: PrefillSession,
    reporter: ProgressReporter,
    beginToken: number,
  ): Promise<void> {
    const logprobs = session.unreported.get(beginToken) ?? [];
    await this.#overGap(async () => reporter.finish(logprobs), session);
    session.unreported.delete(beginToken);
    const why = session.interruption;
    if (why === 'STALE_EPOCH' || why === 'SESSION_ENDED') {
      throw new ServingError(why, 'the chunk is done, but its session takes no progress any more');
    }
  }

  /** Waits while Redis is away, unless the session is over or the worker must end. */
  async #overGap<T>(operation: () => Promise<T>, session?: PrefillSession): Promise<T> {
    const { nowUnixMs: nowMs, pause, sessions } = this.options;
    const isOver = (): boolean => sessions.closing || (session?.interruption ?? null) !== null;
    return retryOverGap(operation, isOver, { nowMs, pause });
  }

  async #seal(session: PrefillSession, totalTokens: number): Promise<PrefillJobResult> {
    const { engine } = this.options;
    const range = { beginToken: totalTokens, endToken: totalTokens };
    if (session.handOff !== null) {
      const bytes = session.handOff.length;
      return { ...range, bytes, engineMicros: 0, sparse: null, alreadyDone: true, sealed: true };
    }
    const finishedTokens = engine.segments(session.handle).at(-1)?.endToken ?? 0;
    if (finishedTokens !== totalTokens) throw missingChunks(finishedTokens, totalTokens);
    const startedMs = performance.now();
    const handOff = await engine.seal(session.handle);
    session.handOff = handOff;
    const engineMicros = Math.round((performance.now() - startedMs) * 1000);
    return {
      ...range,
      bytes: handOff.length,
      engineMicros,
      sparse: null,
      alreadyDone: false,
      sealed: true,
    };
  }

  /** Runs native work that the session's deadline cuts short. */
  async #interruptible<T>(
    session: PrefillSession,
    job: PrefillJob,
    work: () => Promise<T>,
  ): Promise<T> {
    this.#refuseLate(job);
    const timer = this.#deadlineTimer(session, job);
    try {
      return await work();
    } catch (error) {
      const why = session.interruption;
      const failure = toServingError(error);
      if (failure.code === 'INTERNAL' && why === null) await this.#refuseMoved(session);
      if (failure.code !== 'CANCELLED' || why === null || why === 'CANCELLED') throw failure;
      throw new ServingError(why, `the chunk was interrupted: ${why}`, {}, { cause: error });
    } finally {
      clearTimeout(timer);
    }
  }

  /**
   * What fails for no reason known here may have lost its files to the worker that has the session
   * now.
   */
  async #refuseMoved(session: PrefillSession): Promise<void> {
    const load = async (): Promise<SessionRecord | null> =>
      this.options.store.records.load(session.sessionId);
    const record = await this.#overGap(load, session);
    try {
      refuseOver(record, session.epoch);
    } catch (error) {
      const hasMoved = record !== null && record.epoch !== session.epoch;
      this.#abandon(session, hasMoved ? 'STALE_EPOCH' : 'SESSION_ENDED');
      throw error;
    }
  }

  #deadlineTimer(session: PrefillSession, job: PrefillJob): NodeJS.Timeout | undefined {
    if (job.deadlineUnixMs === null) return undefined;
    const delayMs = Math.min(job.deadlineUnixMs - this.options.nowUnixMs(), 2 ** 31 - 1);
    return setTimeout(() => {
      this.#abandon(session, 'DEADLINE_EXCEEDED');
    }, delayMs);
  }

  /** The session is over for everyone: its work ends and its memory goes, whoever drives it. */
  #abandon(session: PrefillSession, why: Interruption): void {
    const { sessions, onError } = this.options;
    sessions.interrupt(session, why);
    sessions.release(session.sessionId, session.epoch).catch(onError);
  }

  #reporter(
    session: PrefillSession,
    { job, record, sparse }: FitJob,
    alreadyDone: boolean,
  ): ProgressReporter {
    const { beginToken, endToken, totalTokens, cachedTokens } = job;
    const { nowUnixMs, onError, store } = this.options;
    const startedMs = performance.now();
    return new ProgressReporter({
      events: store.events,
      sessionId: job.sessionId,
      epoch: job.epoch,
      turn: record.turn.number,
      chunkName: `chunk-${prefillJobId(job)}`,
      nowMs: nowUnixMs,
      onError,
      onRefused: (refusal) => {
        // The turn of a chunk that ran before may be over while its session is kept.
        if (refusal === 'ended' && alreadyDone) return;
        this.#abandon(session, CODE_BY_REFUSAL[refusal]);
      },
      describe: (share) => {
        const elapsedMicros = (performance.now() - startedMs) * 1000;
        const running = share < 1 ? { beginToken, endToken, share, elapsedMicros } : null;
        const remainingMs =
          totalTokens === null
            ? null
            : remainingPrefillMs({
                sparse,
                finished: session.finished,
                running,
                nextToken: endToken,
                totalTokens,
              });
        return {
          processedTokens: beginToken + Math.floor(share * (endToken - beginToken)),
          totalTokens,
          cachedTokens,
          etaMs: remainingMs === null ? null : Math.round(remainingMs),
        };
      },
    });
  }
}

function sessionKey(
  { sessionId, epoch, stage, fingerprint }: Omit<SessionKey, 'origins'>,
  { origins }: SessionRecord,
): SessionKey {
  return {
    sessionId,
    epoch,
    stage,
    fingerprint,
    origins: origins.map((origin) => ({ ...origin })),
  };
}
