import type { Command } from 'commander';
import { addInfiniteBench, addLongBench } from './eval-benchmarks.js';
import { addMidprompt, addNeedle, addPerplexity, addRuler } from './eval-generated.js';

const EXAMPLES = `
Runs against a cluster, answers into --out: results.jsonl (a line a sample), summary.md, summary.json and
pictures. A run that is stopped goes on when the same command is given again.

Examples:
  longshadow eval needle --lengths 4K,32K --out runs/needle
  longshadow eval ruler --tasks niah_single_1,vt --lengths 8K --out runs/ruler --policies dense
  longshadow eval ppl --help`;

/** `longshadow eval` and its subcommands. */
export function addEvalCommand(program: Command): void {
  const command = program
    .command('eval')
    .description('Measure what a served model makes of long prompts')
    .addHelpText('after', EXAMPLES);
  addRuler(command);
  addNeedle(command);
  addMidprompt(command);
  addPerplexity(command);
  addInfiniteBench(command);
  addLongBench(command);
}
