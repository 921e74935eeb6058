import { mkdtempSync, rmSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Cluster, type ClusterOptions } from '../../services/cli/cluster/start-cluster.js';
import { makeClient, unaryCall } from '../../services/platform/rpc/client.js';
import type { RouterServiceClient } from '../../proto/gen/longshadow/router/v1/RouterService.js';
import type { MemberStatus__Output } from '../../proto/gen/longshadow/router/v1/MemberStatus.js';
import type { GetStatusResponse__Output } from '../../proto/gen/longshadow/router/v1/GetStatusResponse.js';

export const NEEDLE_MODEL = fileURLToPath(new URL('../../models/needle', import.meta.url));
export const MODEL = 'needle';

/** A real cluster of a test file: real Redis, real processes, the embedded model. */
export interface TestCluster {
  readonly cluster: Cluster;
  readonly address: string;
  readonly client: RouterServiceClient;
  /** What the services wrote, newest last. */
  readonly logs: readonly string[];
  status(): Promise<GetStatusResponse__Output>;
  stop(): Promise<void>;
}

/** Starts a cluster on free ports, with a store of its own. */
export async function startTestCluster(
  environment: NodeJS.ProcessEnv = {},
  overrides: Partial<ClusterOptions> = {},
): Promise<TestCluster> {
  const base = mkdtempSync('/dev/shm/longshadow-test-');
  const logs: string[] = [];
  const cluster = await Cluster.start({
    modelDirectory: NEEDLE_MODEL,
    workers: 1,
    routerListen: '127.0.0.1:0',
    storeBase: base,
    redisUrl: null,
    environment: { ...process.env, LONGSHADOW_LOG_LEVEL: 'warn', ...environment },
    readyWithinMs: 60_000,
    onLog: (role, line) => logs.push(`${role}: ${line}`),
    ...overrides,
  }).catch((error: unknown) => {
    rmSync(base, { recursive: true, force: true });
    throw error;
  });
  const client = makeClient('router', cluster.routerAddress, cluster.clientTls);
  return {
    cluster,
    address: cluster.routerAddress,
    client,
    logs,
    status: () => unaryCall(client, 'getStatus', {}, { timeoutMs: 10_000 }),
    stop: async () => {
      client.close();
      await cluster.stop();
      rmSync(base, { recursive: true, force: true });
    },
  };
}

/** What a member holds for sessions: equal to the baseline when all is released. */
export function heldBy(members: readonly MemberStatus__Output[]): Record<string, unknown>[] {
  return members
    .map((member) => ({
      role: member.role,
      address: member.address,
      sessions: member.sessions,
      storeFiles: member.storeFiles,
      storeFileBytes: member.storeFileBytes,
      mappings: member.mappings,
      mappedBytes: member.mappedBytes,
      privateBytes: member.privateBytes,
    }))
    .sort((left, right) => left.address.localeCompare(right.address));
}
