import { closeEngine, engineInfo, openEngine } from '../../../native/ts/index.js';
import { readModelConfig, type ModelShape } from './model-config.js';
import { readTokenizerFacts, type TokenizerFacts } from './tokenizer-facts.js';

/** What a model folder holds, and whether this build can serve it. */
export interface ModelDescription {
  readonly directory: string;
  readonly shape: ModelShape;
  /** Null when the engine does not open the model. */
  readonly weights: {
    readonly parameters: number;
    readonly fileBytes: number;
    readonly packedBytes: number;
    readonly fingerprint: string;
    readonly instructionSet: string;
  } | null;
  /** Bytes of K and V, bf16, over all layers. */
  readonly kvBytesPerToken: number;
  readonly tokenizer: TokenizerFacts | null;
  /** Null if served; else why not. */
  readonly notServedBecause: string | null;
}

const BF16_BYTES = 2;

/**
 * Opens a model exactly as a worker would, so that "served" is a fact and not a guess.
 *
 * @throws ServingError or the engine's MODEL_INVALID, when the folder is missing or corrupt
 */
export async function inspectModel(directory: string): Promise<ModelDescription> {
  const shape = await readModelConfig(directory);
  const tokenizer = await readTokenizerFacts(directory);
  const kvBytesPerToken = 2 * shape.layers * shape.kvHeads * shape.headDim * BF16_BYTES;
  const described = { directory, shape, kvBytesPerToken, tokenizer };
  try {
    const weights = await readWeights(directory);
    const notServedBecause = tokenizer === null ? 'tokenizer.json is missing' : null;
    return { ...described, weights, notServedBecause };
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'UNSUPPORTED')) throw error;
    return { ...described, weights: null, notServedBecause: error.message };
  }
}

async function readWeights(directory: string): Promise<NonNullable<ModelDescription['weights']>> {
  const engine = await openEngine({
    modelDirectory: directory,
    device: 'cpu',
    dtype: 'bf16',
    threads: 0,
    layerBegin: 0,
    layerEnd: null,
  });
  try {
    const info = engineInfo(engine);
    return {
      parameters: info.parameters,
      fileBytes: info.weightFileBytes,
      packedBytes: info.packedBytes,
      fingerprint: info.modelFingerprint,
      instructionSet: info.instructionSet,
    };
  } finally {
    await closeEngine(engine);
  }
}
