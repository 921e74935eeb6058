import { ServingError } from '../domain/serving-error.js';

/** What ioredis and BullMQ take as connection options. */
export interface RedisConnectionOptions {
  readonly host?: string;
  readonly port?: number;
  /** Of a unix socket, instead of host and port. */
  readonly path?: string;
  readonly db: number;
  readonly username?: string;
  readonly password?: string;
  readonly tls?: { readonly servername: string };
  readonly maxRetriesPerRequest: null;
  readonly connectTimeout: number;
  readonly keepAlive: number;
  readonly retryStrategy: (attempt: number) => number;
}

/**
 * Connection options for a Redis URL: `redis://[user:password@]host[:port][/db]`, `rediss://...`
 * (TLS), `unix:///path/to.sock[?db=n]`. Redis Cluster is not supported: scripts touch several keys
 * of one session.
 *
 * Reconnects without end, with back-off up to 2 s, and sets no time limit on commands: queue
 * consumers block. The session store adds its own limit.
 *
 * @throws ServingError BAD_REQUEST when the URL has another form
 */
export function redisOptions(url: string): RedisConnectionOptions {
  const parsed = parseUrl(url);
  const common = {
    ...optional('username', decodeURIComponent(parsed.username)),
    ...optional('password', decodeURIComponent(parsed.password)),
    maxRetriesPerRequest: null,
    connectTimeout: 5_000,
    keepAlive: 10_000,
    retryStrategy: reconnectDelayMs,
  };
  if (parsed.protocol === 'unix:') {
    return {
      ...common,
      path: decodeURIComponent(parsed.pathname),
      db: database(url, parsed.searchParams.get('db') ?? ''),
    };
  }
  return {
    ...common,
    host: parsed.hostname.replace(/^\[|\]$/g, ''),
    port: parsed.port === '' ? 6379 : Number(parsed.port),
    db: database(url, parsed.pathname.slice(1)),
    ...(parsed.protocol === 'rediss:' ? { tls: { servername: parsed.hostname } } : {}),
  };
}

/** Back-off of the nth reconnect, in milliseconds: 50, 100, 200, ... 2,000. */
export function reconnectDelayMs(attempt: number): number {
  return Math.min(50 * 2 ** Math.min(attempt - 1, 10), 2_000);
}

/** The URL with its password hidden, for logs and errors. */
export function withoutPassword(url: string): string {
  return url.replace(/^([a-z]+:\/\/[^:@/]*):.*@/i, '$1:***@');
}

function parseUrl(url: string): URL {
  const wanted =
    'want redis://host:port/db, rediss://host:port/db or unix:///path/to.sock (set REDIS_URL)';
  if (!URL.canParse(url))
    throw new ServingError('BAD_REQUEST', `Redis URL is not a URL; ${wanted}`);
  const parsed = new URL(url);
  const known = ['redis:', 'rediss:', 'unix:'].includes(parsed.protocol);
  const complete =
    parsed.protocol === 'unix:' ? parsed.pathname.length > 1 : parsed.hostname !== '';
  if (!known || !complete) {
    throw new ServingError('BAD_REQUEST', `Redis URL "${withoutPassword(url)}": ${wanted}`);
  }
  return parsed;
}

function database(url: string, text: string): number {
  if (!/^\d{0,4}$/.test(text)) {
    throw new ServingError(
      'BAD_REQUEST',
      `Redis URL "${withoutPassword(url)}": the database must be a number, as in redis://host:6379/0`,
    );
  }
  return Number(text);
}

function optional<K extends string>(key: K, value: string): Partial<Record<K, string>> {
  return value === '' ? {} : ({ [key]: value } as Record<K, string>);
}
