import type { Registry } from 'prom-client';
import type { SessionState } from '../domain/session-record.js';
import {
  cancelToFreeSeconds,
  dataLossTotal,
  decodeRestartsTotal,
  evictionsTotal,
  generatedTokensTotal,
  prefixChunksTotal,
  prefixTokensTotal,
  promptTokensTotal,
  replansTotal,
  sessionsEndedTotal,
  sessionsGauge,
  takeoversTotal,
  timeToFirstTokenSeconds,
} from '../platform/metrics.js';
import type { DriveMetrics } from './drive/drive-deps.js';

/** DriveMetrics on Prometheus; every series is there from the start. */
export function makeDriveMetrics(registry: Registry): DriveMetrics {
  const cancelToFree = cancelToFreeSeconds(registry);
  const timeToFirstToken = timeToFirstTokenSeconds(registry);
  const promptTokens = promptTokensTotal(registry);
  const generatedTokens = generatedTokensTotal(registry);
  const sessionsEnded = sessionsEndedTotal(registry);
  const replans = replansTotal(registry);
  const decodeRestarts = decodeRestartsTotal(registry);
  const dataLoss = dataLossTotal(registry);
  const takeovers = takeoversTotal(registry);
  const prefixChunks = prefixChunksTotal(registry);
  const prefixTokens = prefixTokensTotal(registry);
  const evictions = evictionsTotal(registry);
  return {
    cancelToFree: (phase, seconds) => {
      cancelToFree.observe({ phase }, seconds);
    },
    timeToFirstToken: (model, seconds) => {
      timeToFirstToken.observe({ model }, seconds);
    },
    tokens: (model, { computed, cached, generated }) => {
      promptTokens.inc({ model, source: 'computed' }, computed);
      promptTokens.inc({ model, source: 'cached' }, cached);
      generatedTokens.inc({ model }, generated);
    },
    ended: (outcome) => {
      sessionsEnded.inc({ outcome });
    },
    replanned: (cause) => {
      replans.inc({ cause });
    },
    decodeReplaced: (cause) => {
      decodeRestarts.inc({ cause });
    },
    corruption: (place) => {
      dataLoss.inc({ kind: place });
    },
    tookOver: (state) => {
      takeovers.inc({ state });
    },
    prefixReused: (tokens) => {
      prefixChunks.inc();
      prefixTokens.inc(tokens);
    },
    evicted: () => {
      evictions.inc();
    },
  };
}

/** States that a session is driven in. */
const DRIVEN_STATES = ['uploading', 'prefilling', 'sealing', 'decoding', 'kept'] as const;

/** Sessions that this router drives, by state: counted when someone asks. */
export function exposeSessions(registry: Registry, states: () => Iterable<SessionState>): void {
  sessionsGauge(registry, (gauge) => {
    const now = [...states()];
    for (const state of DRIVEN_STATES) {
      gauge.set({ state }, now.filter((each) => each === state).length);
    }
  });
}
