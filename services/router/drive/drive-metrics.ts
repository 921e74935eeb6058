import type { Registry } from 'prom-client';
import {
  cancelToFreeSeconds,
  generatedTokensTotal,
  promptTokensTotal,
  sessionsEndedTotal,
  timeToFirstTokenSeconds,
} from '../../platform/metrics.js';
import type { DriveMetrics } from './drive-deps.js';

/** DriveMetrics on Prometheus. */
export function makeDriveMetrics(registry: Registry): DriveMetrics {
  return {
    cancelToFree: (phase, seconds) => {
      cancelToFreeSeconds(registry).observe({ phase }, seconds);
    },
    timeToFirstToken: (model, seconds) => {
      timeToFirstTokenSeconds(registry).observe({ model }, seconds);
    },
    tokens: (model, { computed, cached, generated }) => {
      promptTokensTotal(registry).inc({ model, source: 'computed' }, computed);
      promptTokensTotal(registry).inc({ model, source: 'cached' }, cached);
      generatedTokensTotal(registry).inc({ model }, generated);
    },
    ended: (outcome) => {
      sessionsEndedTotal(registry).inc({ outcome });
    },
  };
}
