import { setTimeout as sleep } from 'node:timers/promises';
import { valueStoreFreeBytes } from '../../native/ts/index.js';
import { aborted } from '../engine-host/aborted.js';
import { describeMember, type EngineHost, openEngineHost } from '../engine-host/engine-host.js';
import { watchOverSessions } from '../engine-host/free-over-sessions.js';
import { type Heartbeat, startHeartbeat } from '../engine-host/heartbeat.js';
import { measureStore } from '../engine-host/measure-store.js';
import { serveMember } from '../engine-host/serve-member.js';
import { tlsFiles } from '../platform/config/common-settings.js';
import type { Log } from '../platform/log.js';
import { makeMetrics } from '../platform/metrics.js';
import { loadService } from '../platform/rpc/load-service.js';
import {
  openSessionStore,
  type OpenSessionStore,
} from '../platform/session-store/open-session-store.js';
import { assembleDecode, type DecodeParts } from './assemble-decode.js';
import type { DecodeSettings } from './config.js';
import { decodeMetrics, type DecodeMetrics } from './metrics.js';
import { decodeService } from './rpc/decode-service.js';
import { WorkerClients } from './rpc/worker-client.js';
import { overDecodes } from './sessions/over-decodes.js';

/** How often shutdown looks whether the last turn has ended. */
const DRAIN_POLL_MS = 50;
/** How long shutdown waits for Redis to take the last events. */
const LAST_EVENTS_MS = 1_000;

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
  const store = await openSessionStore(settings.redisUrl, log);
  const registry = makeMetrics('decode');
  const metrics = decodeMetrics(registry, host.model);
  measureStore(registry, host, ['mapped', 'private']);
  const workers = new WorkerClients(tlsFiles(settings));
  const parts = await assembleDecode(settings, { host, store, workers, metrics, log });
  const hosted = {
    definition: loadService('decode'),
    implementation: decodeService(parts.operations, { log, metrics: registry }),
  };
  const served = await serveMember(settings, hosted, registry, log);
  const running = parts.loop.run();
  const onError = (error: unknown): void => {
    log.error({ err: error }, 'a session that is over could not be freed');
  };
  const overSessions = watchOverSessions(
    overDecodes(parts.sessions, { records: store.records, onError }),
  );
  const address = settings.advertise ?? served.address;
  const member = { settings, host, store, parts, metrics, address };
  const heartbeat = await announce(member, shutdownSignal, log);
  served.setServing(true);
  onReady(served.address);

  // The loop ends before the signal only by a bug, which must end the process.
  await Promise.race([aborted(shutdownSignal), running]);
  served.setServing(false);
  parts.sessions.drain();
  overSessions.stop();
  void heartbeat.beat(); // draining, as soon as Redis takes it
  await endTurns(parts, running, settings.shutdownGraceMs);
  await heartbeat.withdraw();
  await served.close();
  workers.close();
  await store.close();
  await host.close();
}

/**
 * Decodes on until every turn has ended or the grace is over; then what still runs is given back, for
 * another decode to go on with, and everything is freed.
 */
async function endTurns(
  parts: DecodeParts,
  running: Promise<void>,
  graceMs: number,
): Promise<void> {
  const { loop, publisher, sessions } = parts;
  const giveUpAtMs = performance.now() + graceMs;
  while (loop.activeSessions > 0 && performance.now() < giveUpAtMs) await sleep(DRAIN_POLL_MS);
  loop.handBack('SHUTTING_DOWN', 'the decode of the session shuts down');
  await sessions.releaseAll();
  await loop.stop();
  await Promise.race([publisher.drain(), sleep(LAST_EVENTS_MS)]);
  publisher.close();
  await running;
}

function announce(
  member: {
    readonly settings: DecodeSettings;
    readonly host: EngineHost;
    readonly store: OpenSessionStore;
    readonly parts: DecodeParts;
    readonly metrics: DecodeMetrics;
    readonly address: string;
  },
  shutdownSignal: AbortSignal,
  log: Log,
): Promise<Heartbeat> {
  const { settings, host, parts, metrics, address } = member;
  const describe = () => {
    const activeSessions = parts.sessions.count;
    metrics.holds(activeSessions);
    return describeMember(host, 'decode', {
      address,
      activeSessions,
      maxSessions: settings.maxSessions,
      privateCapacityBytes: settings.maxPrivateBytes,
      patternsSha256: '',
      draining: shutdownSignal.aborted,
      // Sessions reserve at the worker's store; decode's own limit is DECODE_MAX_PRIVATE_BYTES.
      storeCapacityBytes: 0,
      storeFreeBytes: valueStoreFreeBytes(host.valueStore),
    });
  };
  return startHeartbeat(member.store.fleet, describe, (error) => {
    log.warn({ err: error }, 'the heartbeat did not reach Redis');
  });
}
