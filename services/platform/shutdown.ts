import { environmentWithFlags } from './config/flags.js';
import {
  describeSettings,
  parseSettings,
  type Environment,
  type SettingsSpec,
} from './config/settings.js';
import { makeLog, type Log } from './log.js';

/** After a lost parent, a process has this long to end by itself. */
const ORPHAN_GRACE_MS = 5_000;

export interface MainOptions {
  /** With it, `--check-config` parses the environment, prints what is in force and exits. */
  readonly settings?: SettingsSpec;
}

/**
 * Runs a service's main function, with its settings as environment and flags give them, and ends the process when it settles: exit code 0, or 1 after a
 * throw. SIGTERM or SIGINT raise `shutdownSignal` once; a second SIGINT ends the process at once
 * (130). An unhandled rejection or exception is a bug: it is logged and ends the process (1).
 *
 * With LONGSHADOW_EXIT_WITH_PARENT=1 the end of stdin means that the parent is gone, however it
 * died; the parent must hold the other end of a pipe. It raises the signal too, and the process
 * ends after 5 s whatever it still does.
 */
export function runMain(
  service: string,
  main: (shutdownSignal: AbortSignal, environment: Environment) => Promise<void>,
  options: MainOptions = {},
): void {
  const log = makeLog(service);
  if (options.settings !== undefined && process.argv.includes('--check-config')) {
    checkConfig(options.settings);
    return;
  }
  const aborter = new AbortController();
  const shutDown = (why: string): void => {
    if (aborter.signal.aborted) return;
    log.info({ why }, 'shutting down');
    aborter.abort(new Error(why));
  };
  endOnBugs(log);
  endOnSignals(shutDown, aborter.signal);
  if (process.env['LONGSHADOW_EXIT_WITH_PARENT'] === '1') endWithParent(shutDown);

  const run = async (): Promise<void> => main(aborter.signal, ownEnvironment());
  run().then(
    () => process.exit(0),
    (error: unknown) => {
      log.fatal({ err: error }, error instanceof Error ? error.message : 'failed');
      process.exit(1);
    },
  );
}

function checkConfig(settings: SettingsSpec): never {
  try {
    const environment = ownEnvironment();
    parseSettings(settings, environment);
    const inForce = describeSettings(settings, environment);
    process.stdout.write(`${JSON.stringify(inForce, null, 2)}\n`);
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
    process.exit(1);
  }
  process.exit(0);
}

function ownEnvironment(): Environment {
  return environmentWithFlags(process.env, process.argv.slice(2));
}

function endOnBugs(log: Log): void {
  const end = (what: string) => (error: unknown) => {
    log.fatal({ err: error }, what);
    process.exit(1);
  };
  process.on('unhandledRejection', end('unhandled rejection'));
  process.on('uncaughtException', end('uncaught exception'));
}

function endOnSignals(shutDown: (why: string) => void, signal: AbortSignal): void {
  process.on('SIGTERM', () => {
    shutDown('SIGTERM');
  });
  process.on('SIGINT', () => {
    if (signal.aborted) process.exit(130);
    shutDown('SIGINT');
  });
}

function endWithParent(shutDown: (why: string) => void): void {
  let gone = false;
  const onParentGone = (): void => {
    if (gone) return;
    gone = true;
    shutDown('the parent process is gone');
    setTimeout(() => process.exit(1), ORPHAN_GRACE_MS).unref();
  };
  process.stdin.on('end', onParentGone);
  process.stdin.on('close', onParentGone);
  process.stdin.on('error', onParentGone);
  process.stdin.resume();
}
