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

/**
 * Starts a service and waits for its line `longshadow-<role> ready <host:port>`.
 *
 * @throws ServingError INTERNAL with the child's last lines, when it ends or is not ready in time
 */
export async function startServiceChild(
  role: ServiceRole,
  environment: NodeJS.ProcessEnv,
  readyWithinMs: number,
  onLog: (role: ServiceRole, line: string) => void,
): Promise<ServiceChild> {
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
      if (address === undefined) onLog(role, line);
      else sawReady(address);
    },
  );
  const address = await firstOf(ready, child, readyWithinMs);
  if (address !== null) return { role, child, address };

  const ended = !child.running;
  if (!ended) child.signal('SIGKILL');
  await child.waitOrKill(1_000);
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

/** Sends SIGTERM and waits; kills what is left after `graceMs`. */
export async function stopServiceChild(service: ServiceChild, graceMs: number): Promise<void> {
  service.child.signal('SIGTERM');
  await service.child.waitOrKill(graceMs);
}

async function firstOf(
  ready: Promise<string>,
  child: SupervisedChild,
  readyWithinMs: number,
): Promise<string | null> {
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<null>((resolve) => {
    timer = setTimeout(resolve, readyWithinMs, null);
  });
  try {
    return await Promise.race([ready, child.exited.then(() => null), timeout]);
  } finally {
    clearTimeout(timer);
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
