/** What a report must not tell: who called, and where the cluster was. */
const UNTOLD: ReadonlySet<string> = new Set([
  ...['--router', '--api-key', '--tls-cert', '--tls-key', '--tls-ca', '--concurrency'],
  '--patience',
]);

/**
 * The command that repeats a run elsewhere, for its report.
 * @param args what follows the program's name
 */
export function describeCommand(args: readonly string[]): string {
  const told: string[] = [];
  for (let at = 0; at < args.length; at += 1) {
    const argument = args[at] ?? '';
    const [flag = '', value] = argument.split('=', 2);
    if (UNTOLD.has(flag)) at += value === undefined ? 1 : 0;
    else told.push(/^[\w./,:=+-]+$/.test(argument) ? argument : `'${argument}'`);
  }
  return ['longshadow', ...told].join(' ');
}
