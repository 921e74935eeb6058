import { accessSync, constants } from 'node:fs';
import { connect } from 'node:net';
import { delimiter, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { ServingError } from '../../domain/serving-error.js';
import { SupervisedChild } from './child-process.js';

const READY_WITHIN_MS = 10_000;
/** sockaddr_un holds 108 bytes with the final zero. */
const SOCKET_PATH_BYTES = 107;

/*
 * Redis knows nothing of its parent, so a shell stands between: it lives as long as its stdin,
 * which the kernel closes with this process, even on SIGKILL.
 */
const KEEPER = `
trap '' INT TERM HUP
exec 3<&0
"$@" </dev/null 3<&- &
redis=$!
(cat <&3; kill "$redis") >/dev/null 2>&1 &
exec 3<&-
wait "$redis"
`;

export interface RedisChild {
  readonly url: string;
  readonly child: SupervisedChild;
}

/**
 * Starts redis-server on a unix socket in `directory`: nothing listens on a port and nothing is
 * written to disk.
 *
 * @throws ServingError REDIS_UNAVAILABLE without a redis-server, or when it does not answer; the
 *   signal's reason
 */
export async function startRedisChild(
  directory: string,
  environment: NodeJS.ProcessEnv,
  signal?: AbortSignal,
): Promise<RedisChild> {
  const program = findProgram('redis-server', environment['PATH'] ?? '');
  if (program === null) {
    throw new ServingError(
      'REDIS_UNAVAILABLE',
      'no redis-server on PATH: install it (apt-get install -y redis-server) ' +
        'or set REDIS_URL to a Redis that runs',
    );
  }
  const socket = join(directory, 'redis.sock');
  if (Buffer.byteLength(socket) > SOCKET_PATH_BYTES) {
    throw new ServingError(
      'BAD_REQUEST',
      `${socket} is too long for a socket: set a shorter TMPDIR`,
    );
  }
  const child = await SupervisedChild.start(
    'redis',
    '/bin/sh',
    ['-c', KEEPER, 'longshadow-redis', program, ...redisArguments(directory, socket)],
    environment,
  );
  await waitForPong(child, socket, signal);
  return { url: `unix://${socket}`, child };
}

/** Ends Redis by ending its keeper's input. */
export async function stopRedisChild(redis: RedisChild): Promise<void> {
  redis.child.endInput();
  await redis.child.waitOrKill(5_000);
}

function redisArguments(directory: string, socket: string): string[] {
  const settings = {
    dir: directory,
    save: '',
    port: '0',
    unixsocket: socket,
    unixsocketperm: '700',
    'maxmemory-policy': 'noeviction',
    appendonly: 'no',
    daemonize: 'no',
  };
  return Object.entries(settings).flatMap(([name, value]) => [`--${name}`, value]);
}

async function waitForPong(
  child: SupervisedChild,
  socket: string,
  signal: AbortSignal | undefined,
): Promise<void> {
  const deadline = Date.now() + READY_WITHIN_MS;
  while (child.running && Date.now() < deadline && signal?.aborted !== true) {
    if (await answersPing(socket)) return;
    await sleep(10);
  }
  child.endInput();
  await child.waitOrKill(1_000);
  signal?.throwIfAborted();
  throw new ServingError(
    'REDIS_UNAVAILABLE',
    `redis-server did not answer on ${socket}; it wrote:\n${child.lastLines().join('\n')}`,
  );
}

function answersPing(socket: string): Promise<boolean> {
  return new Promise((resolve) => {
    const connection = connect(socket);
    const settle = (answered: boolean): void => {
      connection.destroy();
      resolve(answered);
    };
    connection.setTimeout(1_000, () => {
      settle(false);
    });
    connection.once('error', () => {
      settle(false);
    });
    connection.once('data', (data) => {
      settle(data.toString().startsWith('+PONG'));
    });
    connection.write('PING\r\n');
  });
}

function findProgram(name: string, path: string): string | null {
  for (const directory of path.split(delimiter).filter((entry) => entry !== '')) {
    const candidate = join(directory, name);
    try {
      accessSync(candidate, constants.X_OK);
      return candidate;
    } catch {
      // Not in this folder.
    }
  }
  return null;
}
