import type { Command } from 'commander';
import { Routers } from '../rpc/routers.js';
import { hostPortList } from './option-parsers.js';

export interface RouterFlags {
  readonly router: readonly [string, ...string[]];
  readonly apiKey?: string;
}

/** What every command that calls a cluster takes. */
export function addRouterOptions(command: Command): Command {
  return command
    .requiredOption(
      '--router <host:port,...>',
      'address of the router; of several, another goes on where one is gone',
      hostPortList,
    )
    .option('--api-key <key>', 'sent with every call; better LONGSHADOW_API_KEY, which ps hides');
}

/** Close them when done. */
export function openRouters(flags: RouterFlags): Routers {
  const { apiKey, router } = flags;
  const environment =
    apiKey === undefined ? process.env : { ...process.env, LONGSHADOW_API_KEY: apiKey };
  return new Routers(router, environment);
}
