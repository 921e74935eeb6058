import type { Registry } from 'prom-client';
import { tlsFiles } from '../platform/config/common-settings.js';
import type { Log } from '../platform/log.js';
import { startMetricsServer } from '../platform/metrics.js';
import type { HostedService } from '../platform/rpc/load-service.js';
import { startServer } from '../platform/rpc/server.js';

/** Calls that still run when a member closes have this long. */
const CLOSE_GRACE_MS = 1_000;

export interface ServedMember {
  /** Bound host:port. */
  readonly address: string;
  setServing(serving: boolean): void;
  close(): Promise<void>;
}

/** Starts a member's gRPC server, and /metrics if an address is set. */
export async function serveMember(
  settings: Parameters<typeof tlsFiles>[0] & {
    readonly listen: string;
    readonly metricsListen: string | null;
  },
  service: HostedService,
  registry: Registry,
  log: Log,
): Promise<ServedMember> {
  const server = await startServer({
    address: settings.listen,
    tls: tlsFiles(settings),
    services: [service],
    log,
  });
  const metricsServer =
    settings.metricsListen === null
      ? null
      : await startMetricsServer(settings.metricsListen, registry);
  return {
    address: server.address,
    setServing: (serving) => {
      server.setServing(serving);
    },
    close: async () => {
      await server.close(CLOSE_GRACE_MS);
      await metricsServer?.close();
    },
  };
}
