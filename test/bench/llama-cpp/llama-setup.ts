import type { GgufTensorType } from './gguf/encode-gguf.js';

/** What may be chosen in llama.cpp without changing what is computed. */
export interface LlamaSetup {
  /** Dtype of the matrices in the GGUF file; both hold the same numbers. */
  readonly matrices: GgufTensorType;
  /** Dtype of its cache of keys and values. */
  readonly cache: 'F16' | 'BF16' | 'F32';
  readonly flashAttention: boolean;
  /** Tokens of one evaluation, logical and physical batch alike. */
  readonly batchTokens: number;
}

/** llama.cpp's own defaults. */
export const DEFAULT_SETUP: LlamaSetup = {
  matrices: 'BF16',
  cache: 'F16',
  flashAttention: true,
  batchTokens: 512,
};

/** Other values of each choice, in the order in which they are tried. */
const ALTERNATIVES: readonly Partial<LlamaSetup>[] = [
  { batchTokens: 2_048 },
  { matrices: 'F32' },
  { flashAttention: false },
  { cache: 'F32' },
  { cache: 'BF16' },
  { batchTokens: 1_024 },
  { batchTokens: 4_096 },
];

/** One run may be slow by chance: a setup that is slower by more than this has no second one. */
const WORTH_ANOTHER_RUN = 1.25;

/**
 * Looks for the fastest setup: changes one choice at a time and keeps what is faster. The better of
 * two runs counts.
 *
 * @param measure seconds of a prompt under a setup
 */
export async function fastestSetup(
  measure: (setup: LlamaSetup) => Promise<number>,
): Promise<LlamaSetup> {
  let best = DEFAULT_SETUP;
  let bestSeconds = Math.min(await measure(best), await measure(best));
  for (const change of ALTERNATIVES) {
    const setup = { ...best, ...change };
    let seconds = await measure(setup);
    if (seconds < bestSeconds * WORTH_ANOTHER_RUN) {
      seconds = Math.min(seconds, await measure(setup));
    }
    if (seconds < bestSeconds) [best, bestSeconds] = [setup, seconds];
  }
  return best;
}
