import { setTimeout as sleep } from 'node:timers/promises';
import {
  cancelDecodeSession,
  closeDecodeSession,
  decodeSessionTokens,
  decodeStep,
  engineCounters,
  openDecodeSession,
  valueStoreStatus,
} from '../../native/ts/index.js';
import { describeMember, type EngineHost, openEngineHost } from '../engine-host/engine-host.js';
import { startHeartbeat } from '../engine-host/heartbeat.js';
import { hostStatus } from '../engine-host/host-status.js';
import { CODE_BY_NATIVE_CODE } from '../engine-host/native-error-code.js';
import { tlsFiles } from '../platform/config/common-settings.js';
import type { Log } from '../platform/log.js';
import { makeMetrics, startMetricsServer } from '../platform/metrics.js';
import { loadService } from '../platform/rpc/load-service.js';
import { startServer } from '../platform/rpc/server.js';
import { openSessionStore } from '../platform/session-store/open-session-store.js';
import type { DecodeSettings } from './config.js';
import type { DecodeEngine } from './loop/decode-engine.js';
import { DecodeLoop } from './loop/decode-loop.js';
import { loadTokenDecoder } from './loop/detokenize.js';
import { generationEosTokenIds } from './loop/end-rules.js';
import { EventPublisher } from './loop/event-publisher.js';
import { decodeMetrics } from './metrics.js';
import { decodeService } from './rpc/decode-service.js';
import { WorkerClients } from './rpc/worker-client.js';
import { DecodeSessions } from './sessions/decode-sessions.js';

/** Events that may wait for Redis before the loop does: a few steps of a full batch. */
const MAX_WAITING_EVENTS = 256;
/** How often shutdown looks whether the last turn has ended. */
const DRAIN_POLL_MS = 50;
const RPC_GRACE_MS = 1_000;

/**
 * Serves until `shutdownSignal` aborts, then decodes on within the grace and frees everything.
 *
 * @param onReady called once with the bound host:port
 */
export async function runDecode(
  settings: DecodeSettings,
  shutdownSignal: AbortSignal,
  log: Log,
  onReady: (address: string) => void,
): Promise<void> {
  const host = await openEngineHost('decode', settings, Date.now());
  const decoder = await loadTokenDecoder(settings.modelDir);
  const eosTokenIds = [
    ...host.info.eosTokenIds,
    ...(await generationEosTokenIds(settings.modelDir)),
  ];
  const store = await openSessionStore(settings.redisUrl, log);
  const registry = makeMetrics('decode');
  const metrics = decodeMetrics(registry, host.model);
  const onError = (error: unknown): void => {
    log.error({ err: error }, 'decode trouble');
  };
  const workers = new WorkerClients(tlsFiles(settings));
  const publisher = new EventPublisher({
    events: store.events,
    onRefused: ({ sessionId, event }, refusal) => {
      log.info({ sessionId, event: event.type, refusal }, 'the session takes no more events');
      sessions.release(sessionId).catch(onError);
    },
    onError,
    sleep,
    maxWaitingEvents: MAX_WAITING_EVENTS,
  });
  const loop = new DecodeLoop({
    engine: decodeEngine(host),
    publisher,
    decodeId: host.memberId,
    endRules: { eosTokenIds: new Set(eosTokenIds), maxPositions: host.info.maxPositions },
    kvBytesPerToken: host.info.kvBytesPerToken,
    maxPrivateBytes: settings.maxPrivateBytes,
    nowUnixMs: () => Date.now(),
    toErrorCode: ({ code }) => CODE_BY_NATIVE_CODE[code],
    onKept: (session, keptUntilUnixMs) => {
      sessions.kept(session, keptUntilUnixMs);
    },
    onClosed: (session) => {
      sessions.closed(session);
    },
    onStep: metrics.stepRan,
    onStepFailed: onError,
  });
  const sessions: DecodeSessions = new DecodeSessions({
    loop,
    decoder,
    maxSessions: settings.maxSessions,
    maxPositions: host.info.maxPositions,
    vocabSize: host.info.vocabSize,
    expectedFingerprint: host.fingerprint,
    fetchHandOff: (request, signal) => workers.fetchHandOff(request.workerAddress, request, signal),
    openSession: (key, handOff) => openDecodeSession(host.engine, host.valueStore, key, handOff),
    sessionTokens: decodeSessionTokens,
    closeHandle: closeDecodeSession,
    nowUnixMs: () => Date.now(),
    onReleased: metrics.released,
  });
  const operations = {
    sessions,
    status: () => ({
      ...hostStatus(host),
      sessions: sessions.count,
      decodeCalls: engineCounters(host.engine).decodeSteps,
      decodeSteps: loop.steps,
    }),
  };
  const server = await startServer({
    address: settings.listen,
    tls: tlsFiles(settings),
    services: [
      {
        definition: loadService('decode'),
        implementation: decodeService(operations, { log, metrics: registry }),
      },
    ],
    log,
  });
  const metricsServer =
    settings.metricsListen === null
      ? null
      : await startMetricsServer(settings.metricsListen, registry);
  const heartbeat = await startHeartbeat(
    store.fleet,
    () => {
      metrics.holds(sessions.count, hostStatus(host));
      return describeMember(host, 'decode', {
        address: settings.advertise ?? server.address,
        activeSessions: sessions.count,
        draining: shutdownSignal.aborted,
        // Sessions reserve at the worker's store; decode's own limit is DECODE_MAX_PRIVATE_BYTES.
        storeCapacityBytes: 0,
        storeFreeBytes: valueStoreStatus(host.valueStore).freeBytes,
      });
    },
    onError,
  );
  const running = loop.run();
  server.setServing(true);
  onReady(server.address);

  await Promise.race([aborted(shutdownSignal), running]);
  server.setServing(false);
  sessions.drain();
  await heartbeat.beat();
  const giveUpAtMs = performance.now() + settings.shutdownGraceMs;
  while (loop.activeSessions > 0 && performance.now() < giveUpAtMs) await sleep(DRAIN_POLL_MS);
  await sessions.releaseAll();
  await loop.stop();
  await running;
  await Promise.race([publisher.drain(), sleep(RPC_GRACE_MS)]);
  publisher.close();
  await heartbeat.withdraw();
  await server.close(RPC_GRACE_MS);
  await metricsServer?.close();
  workers.close();
  await store.close();
  await host.close();
}

function decodeEngine({ engine }: EngineHost): DecodeEngine {
  return {
    step: (items) => decodeStep(engine, items),
    cancel: cancelDecodeSession,
    close: closeDecodeSession,
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
