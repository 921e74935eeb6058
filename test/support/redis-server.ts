import { spawn, type ChildProcess } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { Redis } from 'ioredis';

export interface TestRedis {
  /** unix:///.../r.sock, for redisOptions() and REDIS_URL. */
  readonly url: string;
  readonly pid: number;
  /** Ends the server and removes its folder. */
  stop(): Promise<void>;
}

/** Ends Redis when this pipe's other end closes, which the kernel does however the parent dies. */
const GUARD = `
"$@" < /dev/null > /dev/null & server=$!
trap 'kill -9 $server 2> /dev/null' TERM
echo $server
read -r _ || true
kill -9 $server 2> /dev/null
rm -rf "$REDIS_FOLDER"
`;

/**
 * Starts a real redis-server on a unix socket in a folder of its own, without persistence. It dies
 * with the test process, SIGKILL included. Give the same folder to start it again at the same URL
 * (as an empty server).
 */
export async function startRedis(
  folder = mkdtempSync(join(tmpdir(), 'ls-redis-')),
): Promise<TestRedis> {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const socket = join(folder, 'r.sock');
  const server = ['redis-server', '--dir', folder, '--port', '0', '--unixsocket', socket];
  const settings = ['--unixsocketperm', '700', '--save', '', '--appendonly', 'no'];
  const policy = ['--maxmemory-policy', 'noeviction'];
  const guard = spawn('sh', ['-c', GUARD, 'sh', ...server, ...settings, ...policy], {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: { ...process.env, REDIS_FOLDER: folder },
  });
  const pid = await firstLineAsNumber(guard);
  await answersPing(socket);
  guard.stdout.destroy();
  guard.unref();
  if (guard.stdin instanceof Socket) guard.stdin.unref();
  return {
    url: `unix://${socket}`,
    pid,
    stop: async () => {
      const ended = new Promise((resolve) => guard.once('exit', resolve));
      guard.ref();
      guard.stdin.end();
      await ended;
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

async function firstLineAsNumber(child: ChildProcess): Promise<number> {
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.stdout?.once('data', (line: Buffer) => {
      resolve(Number(line.toString().split('\n')[0]));
    });
  });
}

async function answersPing(socket: string): Promise<void> {
  const redis = new Redis({ path: socket, retryStrategy: () => 10, maxRetriesPerRequest: null });
  redis.on('error', () => undefined);
  const late = new AbortController();
  try {
    const limit = delay(30_000, null, { signal: late.signal }).catch(() => null);
    const pong = await Promise.race([redis.ping(), limit]);
    if (pong === null)
      throw new Error('redis-server does not answer within 30 s: is it installed?');
  } finally {
    late.abort();
    redis.disconnect();
  }
}
