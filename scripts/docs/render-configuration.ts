import { DECODE_SETTINGS } from '../../services/decode/config.js';
import type { Setting, SettingsSpec } from '../../services/platform/config/settings.js';
import { ROUTER_SETTINGS } from '../../services/router/config.js';
import { WORKER_SETTINGS } from '../../services/worker/config.js';
import { markdownTable } from './markdown-table.js';

/** What each service reads of its environment. */
export const SETTINGS: readonly SettingsSpec[] = [
  ROUTER_SETTINGS,
  WORKER_SETTINGS,
  DECODE_SETTINGS,
];

/** docs/configuration.md. */
export function renderConfiguration(): string {
  const sections = SETTINGS.map(
    ({ service, fields }) =>
      `## ${service}\n\n${markdownTable(
        ['Variable', 'Default', 'Unit', 'Meaning'],
        Object.values(fields).map(row),
      )}\n`,
  );
  return `<!-- Written by \`npm run docs:gen\` from services/*/config.ts. -->

# Configuration

Services read environment variables, once, at start. A service that finds anything wrong names every
bad variable at once and does not start; \`node dist/services/<service>/main.js --check-config\` does
only that and prints what would be in force. An empty variable counts as unset.

An address other than loopback is refused without mutual TLS: set \`LONGSHADOW_TLS_CERT\`, \`_KEY\` and
\`_CA\` together (or \`--tls-cert\`, \`--tls-key\`, \`--tls-ca\`), and at the router without API keys:
[security.md](security.md). \`LONGSHADOW_LOG_LEVEL\` (\`trace\` to \`fatal\`, or \`silent\`; default \`info\`) holds for
every process.

${sections.join('\n')}`;
}

function row({ env, defaultText, unit, description }: Setting<unknown>): string[] {
  return [`\`${env}\``, describeDefault(defaultText), unit, description];
}

function describeDefault(text: string | null): string {
  if (text === null) return 'must be set';
  // The value store's folder carries the user's number, which differs from one reader to the next.
  return text === '' ? 'unset' : `\`${text.replace(/(longshadow-)\d+$/, '$1<uid>')}\``;
}
