import { setTimeout as pause } from 'node:timers/promises';
import type { Registry } from 'prom-client';
import {
  cancelPrefillSession,
  closePrefillSession,
  engineCounters,
  openPrefillSession,
  prefillChunk,
  prefillSessionSegments,
  sealPrefillSession,
} from '../../native/ts/index.js';
import type { SessionStore } from '../domain/session-store.js';
import { type EngineHost, STAGE } from '../engine-host/engine-host.js';
import { hostStatus } from '../engine-host/host-status.js';
import { measureStore } from '../engine-host/measure-store.js';
import type { LoadedPatterns } from '../platform/patterns/load-patterns.js';
import { workerMetrics, type WorkerMetrics } from './metrics.js';
import type { PrefillEngine } from './prefill/prefill-engine.js';
import { PrefillJobs } from './prefill/prefill-jobs.js';
import { PrefillSessions } from './prefill/prefill-sessions.js';
import { SegmentReuse } from './prefill/segment-reuse.js';
import type { WorkerOperations } from './rpc/worker-service.js';
import { nativeSparsePolicy } from '../engine-host/native-sparse-policy.js';
import { removeSessionFiles } from './values/session-files.js';

/** A worker's parts, wired but for what reaches the network. */
export interface WorkerParts {
  readonly metrics: WorkerMetrics;
  readonly sessions: PrefillSessions;
  readonly jobs: PrefillJobs;
  readonly operations: WorkerOperations;
}

export function assembleWorker(
  host: EngineHost,
  patterns: LoadedPatterns,
  store: SessionStore,
  registry: Registry,
  onError: (error: unknown) => void,
): WorkerParts {
  const metrics = workerMetrics(registry, STAGE);
  measureStore(registry, host, ['files', 'mapped', 'private', 'free']);
  const engine = prefillEngine(host);
  const removeFiles = (sessionId: string, throughEpoch: number): Promise<number> =>
    removeSessionFiles(host.storeDir, sessionId, throughEpoch);
  const sessions = new PrefillSessions({
    engine,
    removeFiles,
    nowMs: () => performance.now(),
    onCancelled: metrics.cancelled,
  });
  const jobs = new PrefillJobs({
    engine,
    sessions,
    store,
    stage: STAGE,
    layerBegin: host.info.layerBegin,
    modelFingerprint: host.info.modelFingerprint,
    expectedFingerprint: host.fingerprint,
    sparsePolicy: (policy) => nativeSparsePolicy(policy, { ...host.info, patterns }),
    nowUnixMs: () => Date.now(),
    pause,
    onJob: metrics,
    onError,
  });
  const { storeDir } = host;
  const { records } = store;
  const segments = new SegmentReuse({ storeDir, stage: STAGE, engine, sessions, records });
  const operations: WorkerOperations = {
    handOff: (sessionId, epoch) => jobs.handOff(sessionId, epoch),
    reuse: async (request) => {
      const linked = await segments.reuse(request);
      metrics.reused(request.endToken - request.beginToken);
      return linked;
    },
    release: (sessionId, epoch) => sessions.release(sessionId, epoch),
    status: () => {
      const { prefillChunks, prefillTokens } = engineCounters(host.engine);
      return { ...hostStatus(host), sessions: sessions.count, prefillChunks, prefillTokens };
    },
  };
  return { metrics, sessions, jobs, operations };
}

function prefillEngine({ engine, valueStore }: EngineHost): PrefillEngine {
  return {
    open: (key, sparse) => openPrefillSession(engine, valueStore, key, sparse),
    segments: prefillSessionSegments,
    prefillChunk,
    seal: sealPrefillSession,
    cancel: cancelPrefillSession,
    close: closePrefillSession,
  };
}
