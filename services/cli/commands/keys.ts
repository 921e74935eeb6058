import type { Command } from 'commander';
import { addApiKey } from '../keys/add-api-key.js';

const EXAMPLES = `
The file holds one line a key: the tenant and the SHA-256 of the key. Routers that run with
ROUTER_API_KEYS_FILE read it again when it changes; remove a line to take a key back.

Examples:
  longshadow keys add --tenant acme --file keys.txt
  LONGSHADOW_API_KEY=$(longshadow keys add --tenant acme --file keys.txt) longshadow status ...`;

export function addKeysCommand(program: Command): void {
  program
    .command('keys')
    .description("Make API keys for a router's callers")
    .addHelpText('after', EXAMPLES)
    .command('add')
    .description('Add a key for a tenant, and print it: the only time that anyone sees it')
    .requiredOption('--tenant <name>', 'whose key it is')
    .requiredOption('--file <path>', 'file of keys; made where it is absent')
    .addHelpText('after', EXAMPLES)
    .action(async ({ tenant, file }: { tenant: string; file: string }) => {
      const key = await addApiKey(file, tenant);
      process.stderr.write(`a key of ${tenant}; it is kept nowhere, and cannot be shown again:\n`);
      process.stdout.write(`${key}\n`);
    });
}
