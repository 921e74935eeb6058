import { Option, type Command } from 'commander';
import { fileURLToPath } from 'node:url';
import { Cluster, redisUrlOf } from '../cluster/start-cluster.js';
import { EXIT_INTERRUPTED } from './exit-status.js';
import { hostPort, integerFrom, redisUrl } from './option-parsers.js';
import { stopSignal } from './stop-signal.js';

interface UpFlags {
  readonly routers: number;
  readonly workers: number;
  readonly decodes: number;
  readonly model: string;
  readonly patterns?: string;
  readonly routerListen: string;
  readonly store?: string;
  readonly redis?: string;
  readonly tls?: boolean;
  readonly logLevel: string;
  readonly json?: boolean;
}

/** Opening a large model packs its weights once. */
const READY_WITHIN_MS = 600_000;

const EXAMPLES = `
Runs until Ctrl-C; then every process ends and every file of the cluster is removed. A process that
dies is started again, with pauses that double from 1 s to 30 s; up ends when one fails to start
five times in a row. A Redis of its own comes back empty, which ends the sessions that were running.
Redis: --redis, else REDIS_URL, else a redis-server of its own on a unix socket.

Examples:
  longshadow up
  longshadow up --workers 2 --model models/needle --router-listen 127.0.0.1:7000
  longshadow up --routers 2 --workers 2 --decodes 2
  longshadow up --router-listen 127.0.0.1:0 --json
  longshadow up --tls
  longshadow up --redis unix:///run/redis/redis.sock`;

/** Folder of the model that the project carries; the same from sources and from dist. */
export function embeddedModelDirectory(): string {
  const levels = import.meta.url.endsWith('.ts') ? '../../../' : '../../../../';
  return fileURLToPath(new URL(`${levels}models/needle`, import.meta.url));
}

export function addUpCommand(program: Command): void {
  program
    .command('up')
    .description('Run a local cluster in the foreground: Redis, workers, decodes, routers')
    .option('--routers <count>', 'router processes', integerFrom(1), 1)
    .option('--workers <count>', 'worker processes', integerFrom(1), 1)
    .option('--decodes <count>', 'decode processes', integerFrom(1), 1)
    .option('--model <directory>', 'model folder', embeddedModelDirectory())
    .option(
      '--patterns <file>',
      "pattern file of minference prefill; default: minference.json in the model's folder",
    )
    .option(
      '--router-listen <host:port>',
      'where clients connect, more routers on the ports after it; port 0: any',
      hostPort,
      '127.0.0.1:7000',
    )
    .option('--store <directory>', 'base of the value store; default: /dev/shm/longshadow-<uid>')
    .option('--redis <url>', 'a Redis that runs', redisUrl)
    .option('--tls', 'mutual TLS, with certificates that are made for this cluster and a day')
    .addOption(
      new Option('--log-level <level>', "the services' log on standard error")
        .choices(['silent', 'error', 'warn', 'info', 'debug', 'trace'])
        .default('warn'),
    )
    .option('--json', 'one JSON line with addresses and process ids when ready')
    .addHelpText('after', EXAMPLES)
    .action(up);
}

async function up(flags: UpFlags): Promise<void> {
  const stop = stopSignal();
  const cluster = await startUntilStopped(flags, stop);
  if (cluster === null) return;
  try {
    process.stdout.write(`${flags.json === true ? asJson(cluster) : describe(cluster)}\n`);
    const stopped = new Promise<null>((resolve) => {
      stop.addEventListener('abort', () => {
        resolve(null);
      });
      if (stop.aborted) resolve(null);
    });
    const failure = await Promise.race([stopped, cluster.unexpectedEnd()]);
    if (failure !== null) throw new Error(failure);
  } finally {
    await cluster.stop();
  }
}

/** Null if a signal came before the cluster was ready; nothing is left then. */
async function startUntilStopped(flags: UpFlags, stop: AbortSignal): Promise<Cluster | null> {
  try {
    return await startCluster(flags, stop);
  } catch (error) {
    if (!stop.aborted) throw error;
    process.stderr.write('cancelled; everything is stopped\n');
    process.exitCode = EXIT_INTERRUPTED;
    return null;
  }
}

function startCluster(flags: UpFlags, signal: AbortSignal): Promise<Cluster> {
  const redisUrl = flags.redis ?? redisUrlOf(process.env);
  return Cluster.start({
    modelDirectory: flags.model,
    ...(flags.patterns === undefined ? {} : { patternsFile: flags.patterns }),
    routers: flags.routers,
    workers: flags.workers,
    decodes: flags.decodes,
    routerListen: flags.routerListen,
    storeBase: flags.store ?? null,
    redisUrl,
    tls: flags.tls ?? false,
    environment: { ...process.env, LONGSHADOW_LOG_LEVEL: flags.logLevel },
    readyWithinMs: READY_WITHIN_MS,
    onLog: (_role, line) => process.stderr.write(`${line}\n`),
    onRestart: (line) => process.stderr.write(`${line}\n`),
    signal,
  });
}

function asJson(cluster: Cluster): string {
  return JSON.stringify({
    router: cluster.routerAddress,
    routers: cluster.routerAddresses,
    redis: cluster.redisUrl,
    store: cluster.directories.store,
    temporary: cluster.directories.temporary,
    clusterId: cluster.directories.clusterId,
    members: cluster.members,
    tls: cluster.clientTls,
  });
}

function describe(cluster: Cluster): string {
  const members = cluster.members.map(
    ({ name, address, pid }) => `${name.padEnd(10)}${address.padEnd(24)} pid ${String(pid)}`,
  );
  return [
    ...members,
    `ready: npm run -s longshadow -- status ${connectionOf(cluster)}`,
    'Ctrl-C stops everything.',
  ].join('\n');
}

/** How the command line reaches the first router. Its certificate also names localhost. */
function connectionOf({ routerAddress, clientTls: tls }: Cluster): string {
  if (tls === null) return `--router ${routerAddress}`;
  const router = routerAddress.replace(/^127\.0\.0\.1:/, 'localhost:');
  const { certPath, keyPath, caPath } = tls;
  return `--router ${router} --tls-cert ${certPath} --tls-key ${keyPath} --tls-ca ${caPath ?? ''}`;
}
