import { pino, type Logger } from 'pino';

export type Log = Logger;

const LEVELS: ReadonlySet<string> = new Set([
  'trace',
  'debug',
  'info',
  'warn',
  'error',
  'fatal',
  'silent',
]);

/**
 * A logger that writes one JSON object a line to stderr; stdout belongs to programs' results.
 * Writes are synchronous, so the last line before an exit is never lost. Prompts and answers are
 * not logged by anyone.
 *
 * @param level from LONGSHADOW_LOG_LEVEL unless given; an unknown level means `info`
 */
export function makeLog(
  service: string,
  level: string = process.env['LONGSHADOW_LOG_LEVEL'] ?? 'info',
): Log {
  const known = LEVELS.has(level);
  const log = pino(
    { name: service, level: known ? level : 'info', base: { pid: process.pid } },
    pino.destination({ dest: 2, sync: true }),
  );
  if (!known) log.warn({ level }, 'LONGSHADOW_LOG_LEVEL is not a level; using info');
  return log;
}
