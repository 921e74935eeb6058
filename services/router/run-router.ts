import { randomBytes } from 'node:crypto';
import type { Registry } from 'prom-client';
import { tlsFiles } from '../platform/config/common-settings.js';
import { type Log, makeLog } from '../platform/log.js';
import { makeMetrics, startMetricsServer } from '../platform/metrics.js';
import { redisOptions } from '../platform/redis-url.js';
import { startServer } from '../platform/rpc/server.js';
import {
  openSessionStore,
  type OpenSessionStore,
} from '../platform/session-store/open-session-store.js';
import { openApiKeys } from './auth/open-api-keys.js';
import { closeUnusedRegularly } from './close-unused.js';
import type { RouterSettings } from './config.js';
import type { DriveDeps } from './drive/drive-deps.js';
import { Driver } from './drive/driver.js';
import { FleetView } from './drive/fleet-view.js';
import { BullPrefillQueues } from './drive/prefill-queues.js';
import { exposeSessions, makeDriveMetrics } from './metrics.js';
import { loadModelPolicies } from './model-policies.js';
import { Models } from './models.js';
import { DecodeClients } from './rpc/decode-client.js';
import { Relays } from './rpc/relays.js';
import { makeRouterService } from './rpc/router-service.js';
import { WorkerClients } from './rpc/worker-client.js';

/** Members come and go in seconds. */
const FLEET_MAX_AGE_MS = 500;

/** Runs a router until `shutdownSignal`; `onReady` gets the bound address. */
export async function runRouter(
  settings: RouterSettings,
  shutdownSignal: AbortSignal,
  onReady: (address: string) => void,
): Promise<void> {
  const log = makeLog('router');
  const metrics = makeMetrics('router');
  const apiKeys = await openApiKeys(settings, log);
  const models = await Models.load(settings.models);
  const policyDefaults = await loadModelPolicies(settings, models);
  const store = await openSessionStore(settings.redisUrl, log);
  const peers = openPeers(settings, store, log);
  const { workers, decodes, queues, fleet } = peers;
  const driverId = `router-${randomBytes(4).toString('hex')}`;
  const driver = makeDriver(
    settings,
    { store, fleet, queues, workers, decodes, driverId, log, policyDefaults },
    metrics,
  );
  const clients = [workers, decodes];
  const stopSweeping = closeUnusedRegularly({ fleet, driver, queues, clients }, log);
  const { defaultMaxPromptTokens, uploadIdleMs } = settings;
  const relays = new Relays(store.clients, driverId, log);
  const service = makeRouterService(
    {
      ...{ models, driver, store, fleet, workers, decodes, log, relays },
      ...{ defaultMaxPromptTokens, uploadIdleMs },
    },
    { log, metrics, authenticate: apiKeys?.authenticate },
  );
  const { listenAddress: address } = settings;
  const server = await startServer({ address, tls: tlsFiles(settings), services: [service], log });
  const metricsServer = await startMetricsServer(settings.metricsAddress, metrics);
  log.info(
    { address: server.address, metrics: metricsServer.address, driverId, models: models.names },
    'router is ready',
  );
  server.setServing(true);
  onReady(server.address);

  await aborted(shutdownSignal);
  server.setServing(false);
  stopSweeping();
  await driver.shutDown(settings.shutdownGraceMs);
  relays.stop();
  await server.close(settings.shutdownGraceMs);
  apiKeys?.close();
  await peers.close();
  await metricsServer.close();
  await store.close();
}

/** What drives sessions, and counts what it does. */
function makeDriver(
  settings: RouterSettings,
  parts: Omit<DriveDeps, 'nowUnixMs' | 'metrics' | 'recoveryMs'>,
  registry: Registry,
): Driver {
  const metrics = makeDriveMetrics(registry);
  const { recoveryMs } = settings;
  const driver = new Driver(
    { ...parts, metrics, recoveryMs, nowUnixMs: () => Date.now() },
    settings,
  );
  exposeSessions(registry, () => driver.states());
  return driver;
}

/** Ways to the rest of the cluster. */
function openPeers(settings: RouterSettings, store: OpenSessionStore, log: Log) {
  const tls = tlsFiles(settings);
  const workers = new WorkerClients(tls);
  const decodes = new DecodeClients(tls);
  const queues = new BullPrefillQueues(redisOptions(settings.redisUrl), store.fairShares, log);
  const fleet = new FleetView(store.fleet, FLEET_MAX_AGE_MS, () => performance.now());
  const close = async (): Promise<void> => {
    await queues.close();
    workers.close();
    decodes.close();
  };
  return { workers, decodes, queues, fleet, close };
}

async function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  await new Promise<void>((resolve) => {
    const onAbort = (): void => {
      resolve();
    };
    signal.addEventListener('abort', onAbort, { once: true });
  });
}
