import type { Command } from 'commander';
import { inspectModel, type ModelDescription } from '../inspect/inspect-model.js';
import type { TokenizerFacts } from '../inspect/tokenizer-facts.js';
import { formatBytes, formatCount } from '../output/format.js';

const EXAMPLES = `
Examples:
  longshadow models inspect models/needle
  longshadow models inspect models/needle --json`;

export function addModelsCommand(program: Command): void {
  program
    .command('models')
    .description('Look at model folders')
    .addHelpText('after', EXAMPLES)
    .command('inspect')
    .description('Show the shape, size and tokenizer of a model folder, and whether it is served')
    .argument('<directory>', 'model folder in Hugging Face layout')
    .option('--json', 'one JSON object on standard output')
    .addHelpText('after', EXAMPLES)
    .action(async (directory: string, { json }: { json?: boolean }) => {
      const model = await inspectModel(directory);
      process.stdout.write(`${json === true ? JSON.stringify(model) : describeModel(model)}\n`);
    });
}

function describeModel(model: ModelDescription): string {
  const { shape, weights, kvBytesPerToken } = model;
  const rows: [string, string][] = [
    ['model', `${shape.modelType}, ${model.directory}`],
    [
      'shape',
      `${String(shape.layers)} layers, hidden ${formatCount(shape.hiddenSize)}, ` +
        `FFN ${formatCount(shape.ffnSize)}, ${String(shape.queryHeads)} query heads, ` +
        `${String(shape.kvHeads)} kv heads of ${String(shape.headDim)}`,
    ],
    [
      'positions',
      `${formatCount(shape.maxPositions)}, rope base ` +
        (shape.ropeTheta === null ? 'not given' : formatCount(shape.ropeTheta)),
    ],
    ...(weights === null ? [] : describeWeights(weights, shape.tiedEmbeddings)),
    [
      'KV',
      `${formatBytes(kvBytesPerToken)} a token in bf16: ${formatBytes(kvBytesPerToken * 2 ** 17)} ` +
        `at 128K tokens, ${formatBytes(kvBytesPerToken * 2 ** 20)} at 1M`,
    ],
    ['tokenizer', describeTokenizer(model.tokenizer, shape.vocabSize)],
    ['served', model.notServedBecause === null ? 'yes' : `no: ${model.notServedBecause}`],
  ];
  return rows.map(([name, value]) => `${name.padEnd(13)}${value}`).join('\n');
}

function describeWeights(
  weights: NonNullable<ModelDescription['weights']>,
  tiedEmbeddings: boolean,
): [string, string][] {
  return [
    [
      'weights',
      `${formatCount(weights.parameters)} parameters, ${formatBytes(weights.fileBytes)} in files, ` +
        `${formatBytes(weights.packedBytes)} packed for ${weights.instructionSet}, ` +
        (tiedEmbeddings ? 'tied embeddings' : 'separate head'),
    ],
    ['fingerprint', weights.fingerprint],
  ];
}

function describeTokenizer(tokenizer: TokenizerFacts | null, vocabSize: number): string {
  if (tokenizer === null) return 'none';
  const special = tokenizer.specialTokens.map(({ id, text }) => `${String(id)} ${text}`);
  const shown = special.slice(0, 6).join(', ') + (special.length > 6 ? ', ...' : '');
  return (
    `${tokenizer.kind}, ${formatCount(tokenizer.tokens)} ids (the model has ${formatCount(vocabSize)} rows), ` +
    `special: ${shown || 'none'}; ${tokenizer.hasChatTemplate ? 'with' : 'without'} chat template`
  );
}
