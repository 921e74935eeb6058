import { Counter, type Registry } from 'prom-client';
import type { PrefillChunkResult } from '../../native/ts/index.js';
import {
  cancelToFreeSeconds,
  chunkSeconds,
  dataLossTotal,
  queueDepthGauge,
  queueWaitSeconds,
  sessionsGauge,
} from '../platform/metrics.js';
import type { ErrorCode } from '../domain/serving-error.js';
import { sparseMetrics } from './sparse-metrics.js';

/** What the worker measures. */
export interface WorkerMetrics {
  readonly jobStarted: (kind: string, waitMs: number) => void;
  readonly jobEnded: (kind: string, seconds: number) => void;
  readonly jobFailed: (kind: string, code: ErrorCode) => void;
  /** A job begins again that a lost life of this worker had begun. */
  readonly jobRestarted: () => void;
  readonly chunkRan: (chunk: PrefillChunkResult) => void;
  /** Segments were linked instead of run. */
  readonly reused: (tokens: number) => void;
  readonly cancelled: (cancelToFreeMs: number) => void;
  readonly queued: (jobs: number) => void;
  readonly holds: (sessions: number) => void;
}

/** Codes of failures in which bytes were damaged. */
const CORRUPTIONS: ReadonlySet<ErrorCode> = new Set(['DATA_LOSS', 'JOB_CORRUPT']);

/**
 * Every series is there from the start.
 * @param stage that this worker hosts
 */
export function workerMetrics(registry: Registry, stage: number): WorkerMetrics {
  const { tokens, engine, attention, reusedTokens, restarts, failures } = prefillCounters(registry);
  const countSparse = sparseMetrics(registry);
  const chunks = chunkSeconds(registry);
  const queueDepth = queueDepthGauge(registry);
  const queueWait = queueWaitSeconds(registry);
  const dataLoss = dataLossTotal(registry);
  const cancelToFree = cancelToFreeSeconds(registry);
  const sessions = sessionsGauge(registry);
  return {
    jobStarted(kind, waitMs) {
      queueWait.observe({ kind }, waitMs / 1000);
    },
    jobEnded(kind, seconds) {
      chunks.observe({ kind, stage }, seconds);
    },
    jobFailed(kind, code) {
      failures.inc({ kind, code });
      if (CORRUPTIONS.has(code)) dataLoss.inc({ kind });
    },
    jobRestarted() {
      restarts.inc();
    },
    chunkRan({ segment, engineMicros, attentionMicros, sparse }) {
      tokens.inc(segment.endToken - segment.beginToken);
      engine.inc(engineMicros / 1e6);
      attention.inc(attentionMicros / 1e6);
      countSparse(sparse);
    },
    reused(linkedTokens) {
      reusedTokens.inc(linkedTokens);
    },
    cancelled(cancelToFreeMs) {
      cancelToFree.observe({ phase: 'prefill' }, cancelToFreeMs / 1000);
    },
    queued(jobs) {
      queueDepth.set(jobs);
    },
    holds(open) {
      sessions.set({ state: 'open' }, open);
    },
  };
}

function prefillCounters(registry: Registry) {
  const count = (name: string, help: string): Counter =>
    new Counter({ name, help, registers: [registry] });
  const tokens = count('longshadow_prefill_tokens_total', 'Prompt tokens that the engine ran');
  const engine = count('longshadow_prefill_engine_seconds_total', 'Time inside the engine');
  const attention = count(
    'longshadow_prefill_attention_seconds_total',
    'The part of longshadow_prefill_engine_seconds_total that attention took',
  );
  const reusedTokens = count(
    'longshadow_prefill_reused_tokens_total',
    'Prompt tokens whose segments were linked instead of run',
  );
  const restarts = count(
    'longshadow_prefill_job_restarts_total',
    'Jobs that began again after a lost life of the worker had begun them',
  );
  const failures = new Counter({
    name: 'longshadow_prefill_jobs_failed_total',
    help: 'Jobs that failed, by kind (prefill, seal, unreadable) and error code',
    labelNames: ['kind', 'code'],
    registers: [registry],
  });
  return { tokens, engine, attention, reusedTokens, restarts, failures };
}
