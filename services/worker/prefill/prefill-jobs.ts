import type { PrefillChunkResult, SegmentInfo, SessionKey } from '../../../native/ts/index.js';
import { remainingPrefillMs } from '../../domain/prefill-cost.js';
import { type PrefillJob, prefillJobId, type PrefillJobResult } from '../../domain/prefill-job.js';
import type { ResolvedPolicy } from '../../domain/policy.js';
import { type ErrorCode, ServingError } from '../../domain/serving-error.js';
import { ENDED_STATES, type SessionRecord } from '../../domain/session-record.js';
import type { SessionStore } from '../../domain/session-store.js';
import { toServingError } from '../../engine-host/native-error-code.js';
import { parsePrefillJob } from './parse-prefill-job.js';
import type { PrefillEngine } from './prefill-engine.js';
import type { PrefillSession } from './prefill-session.js';
import type { PrefillSessions } from './prefill-sessions.js';
import { ProgressReporter } from './progress-reporter.js';
import { promptLogprobs, wantedPositions } from './prompt-logprobs.js';

export interface PrefillJobsOptions {
  readonly engine: PrefillEngine;
  readonly sessions: PrefillSessions;
  readonly store: Pick<SessionStore, 'records' | 'events' | 'tokenIds'>;
  readonly stage: number;
  readonly modelFingerprint: string;
  /** What the session's bytes must carry, computed here from the engine that is loaded. */
  readonly expectedFingerprint: (
    session: { sessionId: string; epoch: number },
    policy: ResolvedPolicy,
  ) => string;
  readonly nowUnixMs: () => number;
  readonly onJob: {
    readonly jobStarted: (kind: string, waitMs: number) => void;
    readonly jobEnded: (kind: string, seconds: number) => void;
    readonly jobFailed: (kind: string, code: ErrorCode) => void;
    readonly chunkRan: (chunk: PrefillChunkResult) => void;
  };
  readonly onError: (error: unknown) => void;
}

/**
 * Runs the jobs of this worker's queue. The idempotence point of prefill: a finished chunk answers
 * at once, a running one is joined.
 */
export class PrefillJobs {
  constructor(private readonly options: PrefillJobsOptions) {}

  /**
   * @param data a job's payload, unchecked
   * @param addedUnixMs when it was put on the queue
   * @throws ServingError
   */
  async run(data: unknown, addedUnixMs: number): Promise<PrefillJobResult> {
    const job = parsePrefillJob(data);
    try {
      return await this.#run(job, addedUnixMs);
    } catch (error) {
      this.options.onJob.jobFailed(job.kind, toServingError(error).code);
      throw error;
    }
  }

  async #run(job: PrefillJob, addedUnixMs: number): Promise<PrefillJobResult> {
    await this.#refuseUnfit(job);
    const session = await this.options.sessions.open(sessionKey(job));
    const name = `${job.kind} ${String(job.beginToken)}`;
    const startedMs = performance.now();
    this.options.onJob.jobStarted(job.kind, Math.max(0, this.options.nowUnixMs() - addedUnixMs));
    const result = await session.once(name, () =>
      job.kind === 'seal'
        ? this.#seal(session, job.endToken)
        : this.#prefill(session, job, addedUnixMs),
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
    const session = await sessions.open({ sessionId, epoch, stage, fingerprint });
    await session.once(`seal ${String(record.receivedTokens)}`, () =>
      this.#seal(session, record.receivedTokens),
    );
    if (session.handOff === null) throw new Error('a seal left no hand-off');
    return session.handOff;
  }

  async #refuseUnfit(job: PrefillJob): Promise<void> {
    const { sessions, store, modelFingerprint, stage, expectedFingerprint } = this.options;
    if (job.stage !== stage) {
      throw new ServingError('BAD_REQUEST', `this worker hosts stage ${String(stage)}`);
    }
    sessions.refuseStale(job.sessionId, job.epoch);
    this.#refuseLate(job);
    const record = refuseOver(await store.records.load(job.sessionId), job.epoch);
    if (
      job.modelFingerprint !== modelFingerprint ||
      job.fingerprint !== expectedFingerprint(job, record.policy)
    ) {
      throw new ServingError(
        'DATA_LOSS',
        "the job's fingerprint is not that of this worker's model, weights and policy",
      );
    }
  }

  #refuseLate({ deadlineUnixMs }: PrefillJob): void {
    if (deadlineUnixMs !== null && this.options.nowUnixMs() >= deadlineUnixMs) {
      throw new ServingError('DEADLINE_EXCEEDED', 'the session reached its deadline in prefill');
    }
  }

  async #prefill(
    session: PrefillSession,
    job: PrefillJob,
    addedUnixMs: number,
  ): Promise<PrefillJobResult> {
    const { engine, store } = this.options;
    const { sessionId, beginToken, endToken } = job;
    const done = finishedChunk(engine.segments(session.handle), job);
    const reporter = this.#reporter(session, job, done !== null);
    if (done !== null) {
      await this.#report(session, reporter, beginToken);
      return { beginToken, endToken, bytes: done.bytes, engineMicros: 0, alreadyDone: true };
    }
    const tokenIds = await store.tokenIds.get(sessionId, beginToken, endToken);
    const request = {
      tokenIds,
      beginToken,
      nextTokenId: job.nextTokenId,
      logprobPositions: wantedPositions(job),
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
    this.options.onJob.chunkRan(result);
    session.unreported.set(beginToken, promptLogprobs(request, result));
    await this.#report(session, reporter, beginToken);
    const { bytes } = result.segment;
    return { beginToken, endToken, bytes, engineMicros: result.engineMicros, alreadyDone: false };
  }

  /**
   * A chunk's last progress. If Redis cannot be reached the job fails, and its log-probabilities are
   * told only if it is put on the queue again.
   */
  async #report(
    session: PrefillSession,
    reporter: ProgressReporter,
    beginToken: number,
  ): Promise<void> {
    await reporter.finish(session.unreported.get(beginToken) ?? []);
    session.unreported.delete(beginToken);
  }

  async #seal(session: PrefillSession, totalTokens: number): Promise<PrefillJobResult> {
    const { engine } = this.options;
    const range = { beginToken: totalTokens, endToken: totalTokens };
    if (session.handOff !== null) {
      return { ...range, bytes: session.handOff.length, engineMicros: 0, alreadyDone: true };
    }
    const finishedTokens = engine.segments(session.handle).at(-1)?.endToken ?? 0;
    if (finishedTokens !== totalTokens) throw missingChunks(finishedTokens, totalTokens);
    const startedMs = performance.now();
    const handOff = await engine.seal(session.handle);
    session.handOff = handOff;
    const engineMicros = Math.round((performance.now() - startedMs) * 1000);
    return { ...range, bytes: handOff.length, engineMicros, alreadyDone: false };
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
      if (failure.code !== 'CANCELLED' || why === null || why === 'CANCELLED') throw failure;
      throw new ServingError(why, `the chunk was interrupted: ${why}`, {}, { cause: error });
    } finally {
      clearTimeout(timer);
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
  #abandon(session: PrefillSession, why: 'DEADLINE_EXCEEDED' | 'SESSION_ENDED'): void {
    const { sessions, onError } = this.options;
    sessions.interrupt(session, why);
    sessions.release(session.sessionId, session.epoch).catch(onError);
  }

  #reporter(session: PrefillSession, job: PrefillJob, alreadyDone: boolean): ProgressReporter {
    const { beginToken, endToken, totalTokens } = job;
    const { nowUnixMs, onError, store } = this.options;
    const startedMs = performance.now();
    return new ProgressReporter({
      events: store.events,
      sessionId: job.sessionId,
      epoch: job.epoch,
      chunkName: `chunk-${prefillJobId(job)}`,
      nowMs: nowUnixMs,
      onError,
      onRefused: (refusal) => {
        // The turn of a chunk that ran before may be over while its session is kept.
        if (refusal === 'ended' && alreadyDone) return;
        this.#abandon(session, 'SESSION_ENDED');
      },
      describe: (share) => {
        const elapsedMicros = (performance.now() - startedMs) * 1000;
        const running = share < 1 ? { beginToken, endToken, share, elapsedMicros } : null;
        const remainingMs =
          totalTokens === null
            ? null
            : remainingPrefillMs({
                finished: session.finished,
                running,
                nextToken: endToken,
                totalTokens,
              });
        return {
          processedTokens: beginToken + Math.floor(share * (endToken - beginToken)),
          totalTokens,
          cachedTokens: 0,
          etaMs: remainingMs === null ? null : Math.round(remainingMs),
        };
      },
    });
  }
}

function sessionKey({ sessionId, epoch, stage, fingerprint }: PrefillJob): SessionKey {
  return { sessionId, epoch, stage, fingerprint };
}

/** @throws ServingError if there is no record, or it ended, or its plan has another number */
function refuseOver(record: SessionRecord | null, epoch: number): SessionRecord {
  if (record === null) throw new ServingError('SESSION_NOT_FOUND', 'the session has no record');
  if (ENDED_STATES.has(record.state)) {
    throw new ServingError('SESSION_ENDED', `the session is ${record.state}`);
  }
  if (record.epoch !== epoch) {
    throw new ServingError('STALE_EPOCH', `the session is at epoch ${String(record.epoch)}`);
  }
  return record;
}

/**
 * The segment of a chunk that has run before, or null when the chunk is the next one.
 *
 * @throws ServingError WORKER_LOST if chunks before it are missing here: only a new plan helps
 */
function finishedChunk(segments: readonly SegmentInfo[], job: PrefillJob): SegmentInfo | null {
  const { beginToken, endToken } = job;
  const same = segments.find((segment) => segment.beginToken === beginToken);
  if (same?.endToken === endToken) return same;
  const finishedTokens = segments.at(-1)?.endToken ?? 0;
  if (beginToken > finishedTokens) throw missingChunks(finishedTokens, beginToken);
  if (beginToken === finishedTokens) return null;
  throw new ServingError(
    'BAD_REQUEST',
    `chunk [${String(beginToken)}, ${String(endToken)}) does not match the segments that are ` +
      `finished up to ${String(finishedTokens)}`,
  );
}

function missingChunks(finishedTokens: number, wantedTokens: number): ServingError {
  return new ServingError(
    'WORKER_LOST',
    `segments are finished up to ${String(finishedTokens)} here, not ${String(wantedTokens)}`,
  );
}
