import { Server, type ServerCredentials } from '@grpc/grpc-js';
import type { PackageDefinition } from '@grpc/proto-loader';
import { ReflectionService } from '@grpc/reflection';
import { HealthImplementation } from 'grpc-health-check';
import { ServingError } from '../../domain/serving-error.js';
import type { TlsFiles } from '../config/common-settings.js';
import type { Log } from '../log.js';
import { DEFAULT_MESSAGE_LIMITS, serverOptions, type MessageLimits } from './channel-options.js';
import {
  formatHostPort,
  isLoopback,
  parseListenAddress,
  type ListenAddress,
} from './listen-address.js';
import type { HostedService } from './load-service.js';
import { nameSizeRefusals } from './name-size-refusals.js';
import { serverCredentials } from './tls.js';

export interface ServerSpec {
  /** `host:port` (port 0: any free one), `[ipv6]:port` or `unix:/path`. */
  readonly address: string;
  readonly tls: TlsFiles | null;
  readonly services: readonly HostedService[];
  readonly log: Log;
  readonly limits?: MessageLimits;
}

export interface RunningServer {
  /** Bound address, with the port that was chosen. */
  readonly address: string;
  /** What grpc.health.v1 answers for every service; false at first. */
  setServing(serving: boolean): void;
  /** Refuses new calls, waits up to graceMs for those that run, then ends them. */
  close(graceMs: number): Promise<void>;
}

/**
 * Starts a gRPC server with health and reflection beside the services. A request over the message
 * limit ends in MESSAGE_TOO_LARGE before the handler sees it.
 *
 * @throws ServingError BAD_REQUEST: a bad address, an address in use, TLS files that do not work,
 *   or a non-loopback address without mutual TLS
 */
export async function startServer(spec: ServerSpec): Promise<RunningServer> {
  const listen = checkedAddress(spec.address, spec.tls);
  const credentials = serverCredentials(spec.tls);
  const server = new Server({
    ...serverOptions(spec.limits ?? DEFAULT_MESSAGE_LIMITS),
    interceptors: [nameSizeRefusals],
  });
  for (const { definition, implementation } of spec.services) {
    server.addService(definition.service, implementation);
  }
  const names = ['', ...spec.services.map(({ definition }) => definition.fullName)];
  const health = new HealthImplementation(
    Object.fromEntries(names.map((name) => [name, 'NOT_SERVING'] as const)),
  );
  health.addToServer(server);
  const packages = spec.services.map(({ definition }) => definition.packageDefinition);
  const everything: PackageDefinition = Object.fromEntries(packages.flatMap(Object.entries));
  new ReflectionService(everything).addToServer(server);

  const port = await bind(server, spec.address, credentials);
  const address = listen.kind === 'tcp' ? formatHostPort(listen.host, port) : spec.address;
  spec.log.info({ address, tls: spec.tls !== null }, 'listening');
  const setServing = (serving: boolean): void => {
    for (const name of names) health.setStatus(name, serving ? 'SERVING' : 'NOT_SERVING');
  };
  return {
    address,
    setServing,
    close: async (graceMs) => {
      setServing(false);
      await shutDown(server, graceMs);
    },
  };
}

function checkedAddress(address: string, tls: TlsFiles | null): ListenAddress {
  let listen: ListenAddress;
  try {
    listen = parseListenAddress(address);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new ServingError('BAD_REQUEST', `listen address "${address}": ${reason}`);
  }
  const mutualTls = tls !== null && tls.caPath !== null;
  if (!isLoopback(listen) && !mutualTls) {
    throw new ServingError(
      'BAD_REQUEST',
      `refusing to listen on ${address} without mutual TLS: set LONGSHADOW_TLS_CERT, ` +
        'LONGSHADOW_TLS_KEY and LONGSHADOW_TLS_CA, or listen on 127.0.0.1',
    );
  }
  return listen;
}

async function bind(
  server: Server,
  address: string,
  credentials: ServerCredentials,
): Promise<number> {
  return new Promise((resolve, reject) => {
    server.bindAsync(address, credentials, (error, port) => {
      if (error === null) resolve(port);
      else {
        const message = `cannot listen on ${address}: ${error.message}; choose another address`;
        reject(new ServingError('BAD_REQUEST', message, {}, { cause: error }));
      }
    });
  });
}

async function shutDown(server: Server, graceMs: number): Promise<void> {
  await new Promise<void>((resolve) => {
    const timer = setTimeout(() => {
      server.forceShutdown();
      resolve();
    }, graceMs);
    server.tryShutdown(() => {
      clearTimeout(timer);
      resolve();
    });
  });
}
