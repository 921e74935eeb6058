import { parseArgs } from 'node:util';
import type { Environment } from './settings.js';

/** Flags that services take besides their environment, and the variables that they stand for. */
const VARIABLES = {
  'tls-cert': 'LONGSHADOW_TLS_CERT',
  'tls-key': 'LONGSHADOW_TLS_KEY',
  'tls-ca': 'LONGSHADOW_TLS_CA',
} as const;

/**
 * The environment with what the command line says in its place: `--tls-cert a.crt`.
 * @throws Error for an argument that no service knows
 */
export function environmentWithFlags(
  environment: Environment,
  argv: readonly string[],
): Environment {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      'tls-cert': { type: 'string' },
      'tls-key': { type: 'string' },
      'tls-ca': { type: 'string' },
      'check-config': { type: 'boolean' },
    },
  });
  const given: Record<string, string> = {};
  for (const [flag, variable] of Object.entries(VARIABLES)) {
    const value = values[flag as keyof typeof VARIABLES];
    if (value !== undefined) given[variable] = value;
  }
  return { ...environment, ...given };
}
