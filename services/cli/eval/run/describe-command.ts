import { basename } from 'node:path';

/** What a report must not tell: who called, and where the cluster was. */
const UNTOLD: ReadonlySet<string> = new Set([
  ...['--router', '--api-key', '--tls-cert', '--tls-key', '--tls-ca', '--concurrency'],
  '--patience',
]);
/** Paths of the caller's machine: a report tells the last name alone. */
const PATHS: ReadonlySet<string> = new Set([
  ...['--out', '--tokenizer', '--data', '--haystack', '--words', '--squad', '--hotpot', '--texts'],
]);

/**
 * The command that repeats a run elsewhere, for its report: a shell reads it as it stands, in the folder
 * that the named files are in.
 *
 * @param args what follows the program's name
 */
export function describeCommand(args: readonly string[]): string {
  const told: string[] = [];
  for (let at = 0; at < args.length; at += 1) {
    const argument = args[at] ?? '';
    const [flag = ''] = argument.split('=', 1);
    const value = argument.includes('=') ? argument.slice(flag.length + 1) : null;
    if (UNTOLD.has(flag)) {
      at += value === null ? 1 : 0;
    } else if (!PATHS.has(flag)) {
      told.push(quoted(argument));
    } else if (value !== null) {
      told.push(quoted(`${flag}=${basename(value)}`));
    } else {
      at += 1;
      told.push(flag, quoted(basename(args[at] ?? '')));
    }
  }
  return ['longshadow', ...told].join(' ');
}

/** As a POSIX shell reads it. */
function quoted(argument: string): string {
  if (/^[\w./,:=+-]+$/.test(argument)) return argument;
  return `'${argument.replaceAll("'", String.raw`'\''`)}'`;
}
