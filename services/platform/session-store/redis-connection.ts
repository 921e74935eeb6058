import { setTimeout as delay } from 'node:timers/promises';
import { Redis, ReplyError } from 'ioredis';
import { ServingError } from '../../domain/serving-error.js';
import type { Log } from '../log.js';
import { redisOptions, withoutPassword } from '../redis-url.js';
import { SCRIPTS } from './scripts/all-scripts.js';

export interface ConnectionLimits {
  /** A command without an answer for so long is REDIS_UNAVAILABLE; its outcome is unknown. */
  readonly commandTimeoutMs: number;
  /** How long openConnection() waits for Redis. */
  readonly openTimeoutMs: number;
}

export const DEFAULT_CONNECTION_LIMITS: ConnectionLimits = {
  commandTimeoutMs: 3_000,
  openTimeoutMs: 10_000,
};

type ScriptName = keyof typeof SCRIPTS;

type ScriptArgument = string | number | Buffer;

/** ioredis adds a method for every script; these are their types. */
type ScriptMethods = Record<ScriptName, (...args: ScriptArgument[]) => Promise<unknown>>;

/**
 * Opens a connection that knows our scripts and waits until it answers.
 *
 * Commands wait through a short outage, within their time limit. One that was on its way when the
 * connection broke is sent again; every command of the store may run twice.
 *
 * @throws ServingError REDIS_UNAVAILABLE when Redis does not answer in time, BAD_REQUEST when it is
 *   too old
 */
export async function openConnection(
  url: string,
  log: Log,
  limits: ConnectionLimits,
): Promise<Redis> {
  const redis = new Redis({
    ...redisOptions(url),
    lazyConnect: true,
    commandTimeout: limits.commandTimeoutMs,
  });
  for (const [name, script] of Object.entries(SCRIPTS)) redis.defineCommand(name, script);
  let lastError = 'no answer';
  redis.on('error', (error: Error) => {
    lastError = error.message === '' ? error.name : error.message;
    log.warn({ reason: lastError }, 'Redis connection');
  });
  redis.connect().catch(() => undefined); // it retries by itself; 'error' has told
  const ready = await becomesReady(redis, limits.openTimeoutMs);
  if (!ready) {
    redis.disconnect();
    throw new ServingError(
      'REDIS_UNAVAILABLE',
      `Redis at ${withoutPassword(url)} does not answer (${lastError}): start it or set REDIS_URL`,
    );
  }
  try {
    await checkVersion(redis);
  } catch (error) {
    redis.disconnect();
    throw error;
  }
  return redis;
}

async function becomesReady(redis: Redis, timeoutMs: number): Promise<boolean> {
  const stop = new AbortController();
  const ready = new Promise<boolean>((resolve) => {
    redis.once('ready', () => {
      resolve(true);
    });
  });
  const late = delay(timeoutMs, false, { signal: stop.signal }).catch(() => false);
  const won = await Promise.race([ready, late]);
  stop.abort();
  return won;
}

/** Exclusive ranges of streams and unlink-while-expire behaviour need 6.2. */
async function checkVersion(redis: Redis): Promise<void> {
  const info = await answered(redis.info('server'));
  const [, version, major, minor] = /redis_version:((\d+)\.(\d+)[^\s]*)/.exec(info) ?? [];
  if (version === undefined || Number(major) * 100 + Number(minor) >= 602) return;
  throw new ServingError('BAD_REQUEST', `Redis ${version} is too old: use 6.2 or newer`);
}

/** Runs one script. @throws ServingError REDIS_UNAVAILABLE */
export async function runScript(
  redis: Redis,
  name: ScriptName,
  ...args: ScriptArgument[]
): Promise<unknown> {
  return answered((redis as unknown as ScriptMethods)[name](...args));
}

/** Waits for a command's answer. @throws ServingError REDIS_UNAVAILABLE */
export async function answered<T>(command: Promise<T>): Promise<T> {
  try {
    return await command;
  } catch (error) {
    throw toServingError(error);
  }
}

/** Replies of a Redis that is there but cannot serve now. */
const UNAVAILABLE_REPLY =
  /^(LOADING|OOM|READONLY|MISCONF|BUSY|MASTERDOWN|NOREPLICAS|TRYAGAIN|NOAUTH|WRONGPASS|NOPERM)\b/;

function toServingError(error: unknown): unknown {
  if (error instanceof ServingError || !(error instanceof Error)) return error;
  // Any other error reply is a bug of ours (a wrong type, a broken script).
  if (error instanceof ReplyError && !UNAVAILABLE_REPLY.test(error.message)) return error;
  return new ServingError(
    'REDIS_UNAVAILABLE',
    `Redis does not answer: ${error.message}; try again`,
    { retryAfterMs: 1_000 },
    { cause: error },
  );
}
