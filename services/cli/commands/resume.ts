import type { Command } from 'commander';
import { followAnswer } from './follow-answer.js';
import { integerFrom, sessionId } from './option-parsers.js';
import { addRouterOptions, type RouterFlags } from './router-options.js';

interface ResumeFlags extends RouterFlags {
  readonly session: string;
  readonly after: number;
  readonly json?: boolean;
}

const EXAMPLES = `
Shows a session's events after the given one, until its last turn ends: at any router, also when the
one that took the prompt is gone. A session that has ended can be resumed for 10 minutes.

Examples:
  longshadow resume --router 127.0.0.1:7001 --session 0123456789abcdef0123456789abcdef
  longshadow resume --router 127.0.0.1:7000,127.0.0.1:7001 --session "$ID" --after 17 --json`;

export function addResumeCommand(program: Command): void {
  const command = program.command('resume').description('Go on with the answer of a session');
  addRouterOptions(command)
    .requiredOption('--session <id>', 'the session, as `generate --json` names it', sessionId)
    .option('--after <sequence>', 'the last event that you have; 0: none', integerFrom(0), 0)
    .option('--json', 'one JSON object an event on standard output')
    .addHelpText('after', EXAMPLES)
    .action(async (flags: ResumeFlags) => {
      const { session, after } = flags;
      await followAnswer(flags, (routers, lasting) => routers.resume(session, after, lasting));
    });
}
