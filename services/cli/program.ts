import { Command } from 'commander';
import { addBenchCommand } from './commands/bench.js';
import { addDemoCommand } from './commands/demo.js';
import { addEngineCommands } from './commands/engine-commands.js';
import { addEvalCommand } from './commands/eval.js';
import { addForkCommand } from './commands/fork.js';
import { addGenerateCommand } from './commands/generate.js';
import { addKeysCommand } from './commands/keys.js';
import { addModelsCommand } from './commands/models-inspect.js';
import { addPatternsCommand } from './commands/patterns.js';
import { addResumeCommand } from './commands/resume.js';
import { addStatusCommand } from './commands/status.js';
import { addUpCommand } from './commands/up.js';

const EXAMPLES = `
Examples:
  longshadow up --workers 2
  longshadow generate --router 127.0.0.1:7000 --model needle --prompt "Call me"
  longshadow status --router 127.0.0.1:7000
  longshadow models inspect models/needle
  longshadow demo
  longshadow eval needle --lengths 4K,8K --out runs/needle

From a checkout \`longshadow\` is \`npm run -s longshadow --\`.`;

/** The command line: each command with its options, its help and what it does. */
export function makeProgram(): Command {
  const program = new Command('longshadow')
    .description('A serving cluster for million-token prompts')
    .addHelpText('after', EXAMPLES)
    .showHelpAfterError('(--help shows options and examples)');
  addUpCommand(program);
  addGenerateCommand(program);
  addResumeCommand(program);
  addForkCommand(program);
  addStatusCommand(program);
  addKeysCommand(program);
  addModelsCommand(program);
  addEngineCommands(program);
  addDemoCommand(program);
  addEvalCommand(program);
  addBenchCommand(program);
  addPatternsCommand(program);
  return program;
}
