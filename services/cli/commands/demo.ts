import { basename } from 'node:path';
import { type Command, Option } from 'commander';
import type { PrefillPolicy } from '../../domain/policy.js';
import { redisUrlOf } from '../cluster/start-cluster.js';
import { DemoScreen } from '../demo/demo-screen.js';
import { MOST_NEEDLES } from '../demo/needle-prompt.js';
import { runDemo } from '../demo/run-demo.js';
import { EXIT_INTERRUPTED } from './exit-status.js';
import { integerFrom } from './option-parsers.js';
import { stopSignal } from './stop-signal.js';
import { embeddedModelDirectory } from './up.js';

interface DemoFlags {
  readonly tokens: number;
  readonly needles: number;
  readonly seed: number;
  readonly policy: PrefillPolicy;
}

const EXAMPLES = `
Exit status 0 only if the answer is right and nothing is left behind.

Examples:
  longshadow demo
  longshadow demo --tokens 8000 --needles 2 --seed 7
  longshadow demo --tokens 1000000`;

export function addDemoCommand(program: Command): void {
  program
    .command('demo')
    .description('Start a cluster, ask for a number hidden in a book, stop everything')
    .option('--tokens <count>', 'length of the prompt', integerFrom(1_000), 131_072)
    .option('--needles <count>', 'numbers hidden in it', integerFrom(1, MOST_NEEDLES), 4)
    .option('--seed <number>', 'chooses keys and numbers', integerFrom(0), 1)
    .addOption(
      new Option('--policy <name>', 'how prefill attends')
        .choices(['dense', 'minference', 'flexprefill'])
        .default('minference'),
    )
    .addHelpText('after', EXAMPLES)
    .action(async ({ tokens, needles, seed, policy }: DemoFlags) => {
      const stop = stopSignal();
      const colours = process.stdout.isTTY && process.env['NO_COLOR'] === undefined;
      const modelDirectory = embeddedModelDirectory();
      const options = {
        promptTokens: tokens,
        needles,
        seed,
        prefillPolicy: policy,
        modelDirectory,
        model: basename(modelDirectory),
        redisUrl: redisUrlOf(process.env),
        environment: process.env,
      };
      const screen = new DemoScreen(process.stdout, colours);
      try {
        if (!(await runDemo(options, screen, stop))) process.exitCode = 1;
      } catch (error) {
        if (!stop.aborted) throw error;
        process.stderr.write('cancelled; everything is stopped\n');
        process.exitCode = EXIT_INTERRUPTED;
      }
    });
}
