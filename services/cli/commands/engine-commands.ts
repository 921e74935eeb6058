import type { Command } from 'commander';
import { ServingError } from '../../domain/serving-error.js';
import { writeSafetensors } from '../engine/safetensors.js';
import { greedyTokens, promptLogits, type EngineChoice } from '../engine/scratch-run.js';
import { readTokenIds } from '../engine/token-ids-file.js';
import { addEngineOptions, type EngineFlags } from './engine-options.js';
import { integerFrom, integerList } from './option-parsers.js';

interface PromptFlags extends EngineFlags {
  readonly ids: string;
  readonly chunk: number;
}

interface LogitsFlags extends PromptFlags {
  readonly rows?: number[];
  readonly out: string;
}

interface GreedyFlags extends PromptFlags {
  readonly count: number;
  readonly stopAtEos?: boolean;
}

const LOGITS_EXAMPLES = `
Writes a safetensors file with the tensor "logits", F32 [rows, vocabulary].

Examples:
  longshadow logits --model models/needle --ids ids.json --out logits.safetensors
  longshadow logits --model models/needle --ids ids.json --rows 0,1,63 --out logits.safetensors \\
    --device reference --dtype fp32 --chunk 64`;

const GREEDY_EXAMPLES = `
Examples:
  longshadow greedy --model models/needle --ids ids.json --count 16
  longshadow greedy --model models/needle --ids ids.json --count 200 --stop-at-eos --dtype fp32`;

/** Commands that run the engine in this process, without a cluster. */
export function addEngineCommands(program: Command): void {
  withPromptOptions(program.command('logits'))
    .description("Write the model's logits for some rows of a prompt")
    .option('--rows <list>', 'positions, as 0,1,5; default: the last', integerList)
    .requiredOption('--out <path>', 'safetensors file to write')
    .addHelpText('after', LOGITS_EXAMPLES)
    .action(async (flags: LogitsFlags) => {
      const ids = await readTokenIds(flags.ids);
      const rows = flags.rows ?? [ids.length - 1];
      const { values, vocabSize } = await promptLogits(toChoice(flags), ids, rows);
      try {
        await writeSafetensors(flags.out, {
          name: 'logits',
          shape: [rows.length, vocabSize],
          values,
        });
      } catch (error) {
        const why = error instanceof Error ? error.message : String(error);
        throw new ServingError('BAD_REQUEST', `--out ${flags.out} cannot be written: ${why}`);
      }
    });
  withPromptOptions(program.command('greedy'))
    .description('Continue a prompt greedily; prints {"ids": [...]}')
    .requiredOption('--count <tokens>', 'tokens to generate', integerFrom(1))
    .option('--stop-at-eos', "end at the model's end-of-sequence ids (the id is printed)")
    .addHelpText('after', GREEDY_EXAMPLES)
    .action(async (flags: GreedyFlags) => {
      const prompt = await readTokenIds(flags.ids);
      const stopAtEos = flags.stopAtEos === true;
      const ids = await greedyTokens(toChoice(flags), prompt, flags.count, stopAtEos);
      process.stdout.write(`${JSON.stringify({ ids })}\n`);
    });
}

function withPromptOptions(command: Command): Command {
  return addEngineOptions(command)
    .requiredOption('--ids <path>', 'JSON file: an array of token ids or {"ids": [...]}')
    .option('--chunk <tokens>', 'tokens of a prefill chunk; 0: all at once', integerFrom(0), 0);
}

function toChoice({ model, device, dtype, chunk }: PromptFlags): EngineChoice {
  return { modelDirectory: model, device, dtype, chunkTokens: chunk };
}
