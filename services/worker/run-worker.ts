import {
  cancelPrefillSession,
  closePrefillSession,
  engineCounters,
  openPrefillSession,
  prefillChunk,
  prefillSessionSegments,
  sealPrefillSession,
  valueStoreStatus,
} from '../../native/ts/index.js';
import {
  describeMember,
  type EngineHost,
  openEngineHost,
  STAGE,
} from '../engine-host/engine-host.js';
import { storeCapacity } from '../engine-host/check-store-size.js';
import { startHeartbeat } from '../engine-host/heartbeat.js';
import { hostStatus } from '../engine-host/host-status.js';
import { tlsFiles } from '../platform/config/common-settings.js';
import type { Log } from '../platform/log.js';
import { makeMetrics, startMetricsServer } from '../platform/metrics.js';
import { loadService } from '../platform/rpc/load-service.js';
import { startServer } from '../platform/rpc/server.js';
import { openSessionStore } from '../platform/session-store/open-session-store.js';
import type { WorkerSettings } from './config.js';
import { workerMetrics } from './metrics.js';
import { startJobQueue } from './prefill/job-queue.js';
import type { PrefillEngine } from './prefill/prefill-engine.js';
import { PrefillJobs } from './prefill/prefill-jobs.js';
import { PrefillSessions } from './prefill/prefill-sessions.js';
import { workerService } from './rpc/worker-service.js';
import { removeSessionFiles } from './values/session-files.js';
import { removeStaleSessions } from './values/remove-stale-sessions.js';

/** Tokens of the smallest segment: one page. */
const PAGE_TOKENS = 512;
/** After the queue is closed, calls that still run have this long. */
const RPC_GRACE_MS = 1_000;

/**
 * Serves until `shutdownSignal` aborts, then finishes the running chunk within the grace, keeps
 * the segments for the next start, and frees everything else.
 *
 * @param onReady called once with the bound host:port
 */
export async function runWorker(
  settings: WorkerSettings,
  shutdownSignal: AbortSignal,
  log: Log,
  onReady: (address: string) => void,
): Promise<void> {
  const host = await openEngineHost('worker', settings, Date.now());
  const capacityBytes = capacityOf(host, settings.storeCapacityBytes);
  const store = await openSessionStore(settings.redisUrl, log);
  const removedBytes = await removeStaleSessions(host.storeDir, store.records);
  if (removedBytes > 0) log.info({ removedBytes }, 'removed segments of sessions that are over');

  const registry = makeMetrics('worker');
  const metrics = workerMetrics(registry);
  const onError = (error: unknown): void => {
    log.error({ err: error }, 'worker trouble');
  };
  const engine = prefillEngine(host);
  const sessions = new PrefillSessions({
    engine,
    removeFiles: (sessionId, epoch) => removeSessionFiles(host.storeDir, sessionId, epoch),
    nowMs: () => performance.now(),
    onCancelled: metrics.cancelled,
  });
  const jobs = new PrefillJobs({
    engine,
    sessions,
    store,
    stage: STAGE,
    modelFingerprint: host.info.modelFingerprint,
    expectedFingerprint: host.fingerprint,
    nowUnixMs: () => Date.now(),
    onJob: metrics,
    onError,
  });
  const operations = {
    handOff: (sessionId: string, epoch: number) => jobs.handOff(sessionId, epoch),
    release: (sessionId: string, epoch: number) => sessions.release(sessionId, epoch),
    status: () => {
      const { prefillChunks, prefillTokens } = engineCounters(host.engine);
      return { ...hostStatus(host), sessions: sessions.count, prefillChunks, prefillTokens };
    },
  };
  const server = await startServer({
    address: settings.listen,
    tls: tlsFiles(settings),
    services: [
      {
        definition: loadService('worker'),
        implementation: workerService(operations, { log, metrics: registry }),
      },
    ],
    log,
  });
  const metricsServer =
    settings.metricsListen === null
      ? null
      : await startMetricsServer(settings.metricsListen, registry);
  const queue = await startJobQueue({
    redisUrl: settings.redisUrl,
    workerId: host.memberId,
    run: (data, addedUnixMs) => jobs.run(data, addedUnixMs),
    onError,
  });
  const heartbeat = await startHeartbeat(
    store.fleet,
    () => {
      const { freeBytes } = valueStoreStatus(host.valueStore);
      metrics.holds(sessions.count, hostStatus(host), freeBytes);
      return describeMember(host, 'worker', {
        address: settings.advertise ?? server.address,
        activeSessions: sessions.count,
        draining: shutdownSignal.aborted,
        storeCapacityBytes: capacityBytes,
        storeFreeBytes: freeBytes,
      });
    },
    onError,
  );
  server.setServing(true);
  onReady(server.address);

  await aborted(shutdownSignal);
  server.setServing(false);
  await heartbeat.beat();
  await queue.close(settings.shutdownGraceMs, () => sessions.closeAll());
  await sessions.closeAll();
  await heartbeat.withdraw();
  await server.close(RPC_GRACE_MS);
  await metricsServer?.close();
  await store.close();
  await host.close();
}

function capacityOf(host: EngineHost, configuredBytes: number): number {
  const { capacityBytes, freeBytes, fileBytes } = valueStoreStatus(host.valueStore);
  return storeCapacity({
    directory: host.storeDir,
    capacityBytes,
    freeBytes,
    fileBytes,
    smallestSessionBytes: PAGE_TOKENS * host.info.kvBytesPerToken,
    configuredBytes: configuredBytes === 0 ? null : configuredBytes,
  });
}

function prefillEngine({ engine, valueStore }: EngineHost): PrefillEngine {
  return {
    open: (key) => openPrefillSession(engine, valueStore, key),
    segments: prefillSessionSegments,
    prefillChunk,
    seal: sealPrefillSession,
    cancel: cancelPrefillSession,
    close: closePrefillSession,
  };
}

async function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  await new Promise<void>((resolve) => {
    signal.addEventListener('abort', () => {
      resolve();
    });
  });
}
