import { type Command, Option } from 'commander';
import { Routers } from '../rpc/routers.js';
import { hostPortList } from './option-parsers.js';

export interface RouterFlags {
  readonly router: readonly [string, ...string[]];
  readonly tlsCert?: string;
  readonly tlsKey?: string;
  readonly tlsCa?: string;
  readonly apiKey?: string;
}

/**
 * What every command that calls a cluster takes: where it is, and who calls.
 * @param defaultRouter host:port; none: the option must be given
 */
export function addRouterOptions(command: Command, defaultRouter?: string): Command {
  const option = (flags: string, description: string, variable: string): Option =>
    new Option(flags, description).env(variable);
  return command
    .requiredOption(
      '--router <host:port,...>',
      'address of the router; of several, another goes on where one is gone',
      hostPortList,
      defaultRouter === undefined ? undefined : hostPortList(defaultRouter),
    )
    .addOption(option('--tls-cert <path>', 'PEM certificate to show', 'LONGSHADOW_TLS_CERT'))
    .addOption(option('--tls-key <path>', 'PEM key of it', 'LONGSHADOW_TLS_KEY'))
    .addOption(option('--tls-ca <path>', 'PEM certificates to trust', 'LONGSHADOW_TLS_CA'))
    .addOption(
      option(
        '--api-key <key>',
        'sent with every call; better the variable, which ps hides',
        'LONGSHADOW_API_KEY',
      ),
    );
}

/** Close them when done. @throws ServingError BAD_REQUEST: files or a key that cannot be used */
export function openRouters({ router, tlsCert, tlsKey, tlsCa, apiKey }: RouterFlags): Routers {
  const variables = {
    LONGSHADOW_TLS_CERT: tlsCert,
    LONGSHADOW_TLS_KEY: tlsKey,
    LONGSHADOW_TLS_CA: tlsCa,
    LONGSHADOW_API_KEY: apiKey,
  };
  const isSet = ([, value]: [string, string | undefined]): boolean => (value ?? '') !== '';
  return new Routers(router, Object.fromEntries(Object.entries(variables).filter(isSet)));
}
