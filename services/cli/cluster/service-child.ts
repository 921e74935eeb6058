import { createRequire } from 'node:module';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { z } from 'zod';
import { ERROR_CODES, ServingError, type ErrorCode } from '../../domain/serving-error.js';
import { SupervisedChild } from './child-process.js';

export type ServiceRole = 'router' | 'worker' | 'decode';

/** A service process that listens. */
export interface ServiceChild {
  readonly role: ServiceRole;
  readonly child: SupervisedChild;
  /** host:port that it bound. */
  readonly address: string;
}

export interface ServiceStart {
  /** Ends the start at once: the child is killed. */
  readonly signal?: AbortSignal;
  /** Hears of the process as soon as there is one. */
  readonly onSpawn?: (pid: number) => void;
}

/**
 * Starts a service and waits for its line `longshadow-<role> ready <host:port>`.
 *
 * @throws ServingError: the child's own error, else INTERNAL with its last lines, when it ends or is
 *   not ready in time; the signal's reason
 */
export async function startServiceChild(
  role: ServiceRole,
  environment: NodeJS.ProcessEnv,
  readyWithinMs: number,
  onLog: (role: ServiceRole, line: string) => void,
  { signal, onSpawn }: ServiceStart = {},
): Promise<ServiceChild> {
  signal?.throwIfAborted();
  let sawReady: (address: string) => void = () => undefined;
  const ready = new Promise<string>((resolve) => {
    sawReady = resolve;
  });
  const readyLine = new RegExp(`^longshadow-${role} ready (\\S+)`);
  const child = await SupervisedChild.start(
    role,
    process.execPath,
    serviceArguments(role),
    environment,
    (stream, line) => {
      const address = stream === 'stdout' ? readyLine.exec(line)?.[1] : undefined;
      if (address !== undefined) sawReady(address);
      else if (!isOwnError(line)) onLog(role, line); // its error becomes ours
    },
  );
  onSpawn?.(child.pid);
  const address = await firstOf(ready, child, readyWithinMs, signal);
  if (address !== null) return { role, child, address };

  const ended = !child.running;
  if (!ended) child.signal('SIGKILL');
  await child.waitOrKill(1_000);
  signal?.throwIfAborted();
  throw startFailure(role, child.lastLines(), ended ? null : readyWithinMs);
}

/** What a service that could not start said last: its own error if it logged one. */
function startFailure(
  role: ServiceRole,
  lastLines: readonly string[],
  readyWithinMs: number | null,
): ServingError {
  const fatal = lastLines.map(parseFatal).findLast((found) => found !== null) ?? null;
  if (fatal !== null) {
    return new ServingError(fatal.code, `the ${role} could not start: ${fatal.message}`);
  }
  const what =
    readyWithinMs === null
      ? 'ended before it was ready'
      : `was not ready after ${String(readyWithinMs)} ms`;
  return new ServingError('INTERNAL', `the ${role} ${what}; it wrote:\n${lastLines.join('\n')}`);
}

const FATAL_LINE = z.object({
  level: z.literal(60),
  msg: z.string(),
  err: z.object({ code: z.enum(ERROR_CODES).catch('INTERNAL') }).optional(),
});

/** The error of a log line at level fatal. */
function parseFatal(line: string): { code: ErrorCode; message: string } | null {
  if (!line.startsWith('{')) return null;
  try {
    const { msg, err } = FATAL_LINE.parse(JSON.parse(line));
    return { code: err?.code ?? 'INTERNAL', message: msg };
  } catch {
    return null;
  }
}

/** A fatal log line that says what is wrong; one without a code is a bug, and its stack matters. */
function isOwnError(line: string): boolean {
  return (parseFatal(line)?.code ?? 'INTERNAL') !== 'INTERNAL';
}

/** Sends SIGTERM and waits; kills what is left after `graceMs`. */
export async function stopServiceChild(service: ServiceChild, graceMs: number): Promise<void> {
  service.child.signal('SIGTERM');
  await service.child.waitOrKill(graceMs);
}

async function firstOf(
  ready: Promise<string>,
  child: SupervisedChild,
  readyWithinMs: number,
  signal: AbortSignal | undefined,
): Promise<string | null> {
  let timer: NodeJS.Timeout | undefined;
  let giveUp: () => void = () => undefined;
  const timeout = new Promise<null>((resolve) => {
    giveUp = () => {
      resolve(null);
    };
    timer = setTimeout(giveUp, readyWithinMs);
  });
  signal?.addEventListener('abort', giveUp, { once: true });
  try {
    return await Promise.race([ready, child.exited.then(() => null), timeout]);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', giveUp);
  }
}

/** Compiled code starts compiled services; sources (tests) start sources through tsx. */
function serviceArguments(role: ServiceRole): string[] {
  if (!import.meta.url.endsWith('.ts')) {
    return [
      '--enable-source-maps',
      fileURLToPath(new URL(`../../${role}/main.js`, import.meta.url)),
    ];
  }
  const loader = pathToFileURL(createRequire(import.meta.url).resolve('tsx')).href;
  return ['--import', loader, fileURLToPath(new URL(`../../${role}/main.ts`, import.meta.url))];
}
