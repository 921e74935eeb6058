import { type Command, Option } from 'commander';
import type { ComputeDtype, Device } from '../../../native/ts/index.js';
import { PATTERNS_FILE } from '../../platform/patterns/load-patterns.js';
import { integerFrom } from './option-parsers.js';

/** Flags of every command that runs the engine in its own process. */
export interface EngineFlags {
  readonly model: string;
  readonly device: Device;
  readonly dtype: ComputeDtype;
}

/** Which model, and where and in what it computes. */
export function addEngineOptions(command: Command): Command {
  return command
    .requiredOption('--model <directory>', 'model folder in Hugging Face layout')
    .addOption(
      new Option('--device <name>', 'where to compute')
        .choices(['cpu', 'reference'])
        .default('cpu'),
    )
    .addOption(
      new Option('--dtype <name>', 'storage and products')
        .choices(['fp32', 'bf16'])
        .default('bf16'),
    );
}

export function addThreadsOption(command: Command): Command {
  return command.option(
    '--threads <count>',
    'of the engine; 0: one a core',
    integerFrom(0, 1_024),
    0,
  );
}

/** A pattern file to read; without it, the model's own. */
export function addPatternsOption(command: Command): Command {
  return command.option(
    '--patterns <file>',
    `pattern file; default: ${PATTERNS_FILE} in the model's folder`,
  );
}
