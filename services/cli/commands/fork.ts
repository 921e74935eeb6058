import type { Command } from 'commander';
import { formatCount } from '../output/format.js';
import { integerFrom, sessionId } from './option-parsers.js';
import { addRouterOptions, openRouters, type RouterFlags } from './router-options.js';

interface ForkFlags extends RouterFlags {
  readonly session: string;
  readonly keepSessionMs: number;
  readonly json?: boolean;
}

const EXAMPLES = `
The id of the new session comes on standard output. Both share what is prefilled, and each is
continued and released by itself.

Examples:
  longshadow fork --router 127.0.0.1:7000 --session "$ID"
  longshadow generate --router 127.0.0.1:7000 --model needle --prompt "And then?" \\
    --continue "$(longshadow fork --router 127.0.0.1:7000 --session "$ID")"`;

export function addForkCommand(program: Command): void {
  const command = program.command('fork').description('Make a second session of a kept one');
  addRouterOptions(command)
    .requiredOption('--session <id>', 'a kept session', sessionId)
    .option(
      '--keep-session-ms <ms>',
      'how long the new session is kept; 0: as long as the first one',
      integerFrom(0),
      0,
    )
    .option('--json', 'one JSON object on standard output')
    .addHelpText('after', EXAMPLES)
    .action(async (flags: ForkFlags) => {
      const routers = openRouters(flags);
      try {
        const forked = await routers.fork(flags.session, flags.keepSessionMs);
        process.stdout.write(
          `${flags.json === true ? JSON.stringify(forked) : forked.sessionId}\n`,
        );
        const until = new Date(forked.keptUntilUnixMs).toISOString();
        process.stderr.write(`${formatCount(forked.tokens)} tokens, kept until ${until}\n`);
      } finally {
        routers.close();
      }
    });
}
