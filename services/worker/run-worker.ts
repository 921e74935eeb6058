import type { Registry } from 'prom-client';
import { valueStoreFreeBytes, valueStoreStatus } from '../../native/ts/index.js';
import { aborted } from '../engine-host/aborted.js';
import { storeCapacity, storeWarning } from '../engine-host/check-store-size.js';
import { describeMember, type EngineHost, openEngineHost } from '../engine-host/engine-host.js';
import { watchOverSessions } from '../engine-host/free-over-sessions.js';
import { type Heartbeat, startHeartbeat } from '../engine-host/heartbeat.js';
import { type ServedMember, serveMember } from '../engine-host/serve-member.js';
import type { Log } from '../platform/log.js';
import { makeMetrics } from '../platform/metrics.js';
import { loadPatterns } from '../platform/patterns/load-patterns.js';
import { checkPatternShape } from '../platform/patterns/parse-patterns.js';
import { loadService } from '../platform/rpc/load-service.js';
import {
  openSessionStore,
  type OpenSessionStore,
} from '../platform/session-store/open-session-store.js';
import { assembleWorker, type WorkerParts } from './assemble-worker.js';
import type { WorkerSettings } from './config.js';
import { type JobQueue, startJobQueue } from './prefill/job-queue.js';
import { overPrefills } from './prefill/over-prefills.js';
import { watchQueueDepth } from './prefill/queue-depth.js';
import { workerService } from './rpc/worker-service.js';
import { removeStaleSessions } from './values/remove-stale-sessions.js';
import { type StoreSweepOptions, watchStore } from './values/sweep-store.js';

/** Tokens of the smallest segment: one page. */
const PAGE_TOKENS = 512;

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
  const patterns = await loadPatterns(settings.modelDir, settings.patternsFile);
  const host = await openEngineHost('worker', settings, Date.now());
  if (patterns.path !== null) checkPatternShape(patterns.patterns, host.info, patterns.path);
  const capacityBytes = checkedCapacity(host, settings.storeCapacityBytes, log);
  const store = await openSessionStore(settings.redisUrl, log);
  const { records } = store;
  const files = { directory: host.storeDir, records, ...fileLog(log) };
  const removedBytes = await removeStaleSessions(files.directory, records, files.onDoubt);
  if (removedBytes > 0) files.onRemoved(removedBytes);
  const onError = (error: unknown): void => {
    log.error({ err: error }, 'worker trouble');
  };
  const registry = makeMetrics('worker');
  const parts = assembleWorker(host, patterns, store, registry, onError);
  const served = await serve(settings, parts, registry, log);
  const queue = await startQueue(settings, host, store, parts, onError);
  const queueDepth = watchQueueDepth(settings.redisUrl, host.memberId, parts.metrics.queued);
  const overSessions = watchOverSessions(overPrefills(parts.sessions, { records, onError }));
  const isOpen = (sessionId: string): boolean => parts.sessions.find(sessionId) !== null;
  const storeSweep = watchStore({ ...files, isOpen, onError });
  const address = settings.advertise ?? served.address;
  const heartbeat = await announce(
    { host, store, parts, address, capacityBytes, patternsSha256: patterns.sha256 },
    shutdownSignal,
    onError,
  );
  served.setServing(true);
  onReady(served.address);

  await aborted(shutdownSignal);
  served.setServing(false);
  void heartbeat.beat(); // draining, as soon as Redis takes it
  await queue.close(settings.shutdownGraceMs, () => parts.sessions.closeAll());
  queueDepth.stop();
  overSessions.stop();
  storeSweep.stop();
  await parts.sessions.closeAll();
  await heartbeat.withdraw();
  await served.close();
  await store.close();
  await host.close();
}

/** What is said of files that nobody holds. */
function fileLog(log: Log): Pick<StoreSweepOptions, 'onRemoved' | 'onDoubt'> {
  return {
    onRemoved: (removedBytes) => {
      log.info({ removedBytes }, 'removed segments of sessions that are over');
    },
    onDoubt: (sessionId, error) => {
      log.warn({ err: error, sessionId }, 'kept the files of a session that cannot be judged');
    },
  };
}

function serve(
  settings: WorkerSettings,
  { operations }: WorkerParts,
  metrics: Registry,
  log: Log,
): Promise<ServedMember> {
  const hosted = {
    definition: loadService('worker'),
    implementation: workerService(operations, { log, metrics }),
  };
  return serveMember(settings, hosted, metrics, log);
}

function startQueue(
  { redisUrl }: WorkerSettings,
  { memberId: workerId }: EngineHost,
  { fairShares }: OpenSessionStore,
  { jobs, metrics }: WorkerParts,
  onError: (error: unknown) => void,
): Promise<JobQueue> {
  return startJobQueue({
    redisUrl,
    workerId,
    run: (job) => jobs.run(job),
    onStart: ({ priority, restarted }) => {
      if (restarted) metrics.jobRestarted();
      if (priority > 0) fairShares.started(workerId, priority).catch(onError);
    },
    onError,
  });
}

function announce(
  member: {
    readonly host: EngineHost;
    readonly store: OpenSessionStore;
    readonly parts: WorkerParts;
    readonly address: string;
    readonly capacityBytes: number;
    readonly patternsSha256: string;
  },
  shutdownSignal: AbortSignal,
  onError: (error: unknown) => void,
): Promise<Heartbeat> {
  const { host, parts, address, capacityBytes, patternsSha256 } = member;
  const describe = () => {
    const freeBytes = valueStoreFreeBytes(host.valueStore);
    const activeSessions = parts.sessions.count;
    parts.metrics.holds(activeSessions);
    return describeMember(host, 'worker', {
      address,
      activeSessions,
      maxSessions: 0,
      privateCapacityBytes: 0,
      patternsSha256,
      draining: shutdownSignal.aborted,
      storeCapacityBytes: capacityBytes,
      storeFreeBytes: freeBytes,
    });
  };
  return startHeartbeat(member.store.fleet, describe, onError);
}

function checkedCapacity(host: EngineHost, configuredBytes: number, log: Log): number {
  const { capacityBytes, freeBytes, fileBytes } = valueStoreStatus(host.valueStore);
  const warning = storeWarning(host.storeDir, capacityBytes);
  if (warning !== null) log.warn({ capacityBytes }, warning);
  return storeCapacity({
    directory: host.storeDir,
    capacityBytes,
    freeBytes,
    fileBytes,
    smallestSessionBytes: PAGE_TOKENS * host.info.kvBytesPerToken,
    configuredBytes: configuredBytes === 0 ? null : configuredBytes,
  });
}
