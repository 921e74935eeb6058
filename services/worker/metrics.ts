import { Counter, type Registry } from 'prom-client';
import type { PrefillChunkResult } from '../../native/ts/index.js';
import {
  cancelToFreeSeconds,
  chunkSeconds,
  dataLossTotal,
  queueWaitSeconds,
  sessionsGauge,
  storeBytesGauge,
} from '../platform/metrics.js';
import type { ErrorCode } from '../domain/serving-error.js';
import type { HostStatus } from '../engine-host/host-status.js';

/** What the worker measures. */
export interface WorkerMetrics {
  readonly jobStarted: (kind: string, waitMs: number) => void;
  readonly jobEnded: (kind: string, seconds: number) => void;
  readonly jobFailed: (kind: string, code: ErrorCode) => void;
  readonly chunkRan: (chunk: PrefillChunkResult) => void;
  readonly cancelled: (cancelToFreeMs: number) => void;
  readonly holds: (sessions: number, status: HostStatus, freeBytes: number) => void;
}

export function workerMetrics(registry: Registry): WorkerMetrics {
  const count = (name: string, help: string): Counter =>
    new Counter({ name, help, registers: [registry] });
  const tokens = count('longshadow_prefill_tokens_total', 'Prompt tokens that the engine ran');
  const engine = count('longshadow_prefill_engine_seconds_total', 'Time inside the engine');
  const attention = count(
    'longshadow_prefill_attention_seconds_total',
    'The part of longshadow_prefill_engine_seconds_total that attention took',
  );
  const storeBytes = storeBytesGauge(registry);
  return {
    jobStarted(kind, waitMs) {
      queueWaitSeconds(registry).observe({ kind }, waitMs / 1000);
    },
    jobEnded(kind, seconds) {
      chunkSeconds(registry).observe({ kind }, seconds);
    },
    jobFailed(kind, code) {
      if (code === 'DATA_LOSS') dataLossTotal(registry).inc({ kind });
    },
    chunkRan({ segment, engineMicros, attentionMicros }) {
      tokens.inc(segment.endToken - segment.beginToken);
      engine.inc(engineMicros / 1e6);
      attention.inc(attentionMicros / 1e6);
    },
    cancelled(cancelToFreeMs) {
      cancelToFreeSeconds(registry).observe({ phase: 'prefill' }, cancelToFreeMs / 1000);
    },
    holds(sessions, status, freeBytes) {
      sessionsGauge(registry).set({ state: 'open' }, sessions);
      storeBytes.set({ kind: 'files' }, status.storeFileBytes);
      storeBytes.set({ kind: 'mapped' }, status.mappedBytes);
      storeBytes.set({ kind: 'free' }, freeBytes);
    },
  };
}
