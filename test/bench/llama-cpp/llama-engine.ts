import { readFileSync } from 'node:fs';
import type { GgufTensorType } from './gguf/encode-gguf.js';
import {
  loadLlama,
  type EvaluateItem,
  type Llama,
  type LlamaContext,
  type LlamaModel,
  type LlamaSequence,
} from './llama-package.js';
import type { LlamaSetup } from './llama-setup.js';
import { timed, type PrefillRun } from './prefill-run.js';

export interface LlamaOptions {
  /** GGUF files of the same weights. */
  readonly files: Readonly<Record<GgufTensorType, string>>;
  readonly threads: number;
}

interface HeldContext {
  /** What it was made for. */
  readonly name: string;
  readonly context: LlamaContext;
  readonly sequence: LlamaSequence;
}

/** llama.cpp with one model and one context at a time; both are kept while the setup stays. */
export class LlamaEngine {
  #model: { readonly matrices: GgufTensorType; readonly model: LlamaModel } | null = null;
  #context: HeldContext | null = null;

  private constructor(
    private readonly llama: Llama,
    private readonly options: LlamaOptions,
  ) {}

  static async open(options: LlamaOptions): Promise<LlamaEngine> {
    return new LlamaEngine(await loadLlama(options.threads), options);
  }

  /** Release, the CPU library that was chosen, and what it was compiled for. */
  describe(): { release: string; library: string; features: string[] } {
    const maps = readFileSync('/proc/self/maps', 'utf8');
    return {
      release: `${this.llama.llamaCppRelease.release} (${this.llama.buildType})`,
      library: /libggml-cpu-\w+/.exec(maps)?.[0] ?? 'unknown',
      features: [...this.llama.systemInfo.matchAll(/(\w+) = 1/g)].map((match) => match[1] ?? ''),
    };
  }

  /** From an empty cache. Loading, and memory for the cache, are not in the time. */
  async prefill(ids: Uint32Array, setup: LlamaSetup): Promise<PrefillRun> {
    const sequence = await this.#sequenceFor(ids.length, setup);
    await sequence.clearHistory();
    const items = evaluateItems(ids);
    return timed(async () => {
      const { token, confidence } = (await sequence.controlledEvaluate(items)).at(-1)?.next ?? {};
      if (typeof token !== 'number') throw new Error('llama.cpp predicted no token');
      return { nextToken: token, logprob: Math.log(confidence ?? 0) };
    });
  }

  async close(): Promise<void> {
    await this.llama.dispose();
  }

  async #sequenceFor(tokens: number, setup: LlamaSetup): Promise<LlamaSequence> {
    const name = JSON.stringify({ tokens, setup });
    if (this.#context?.name === name) return this.#context.sequence;
    await this.#context?.context.dispose();
    this.#context = null;
    const model = await this.#modelFor(setup.matrices);
    const context = await model.createContext({
      contextSize: tokens + 1,
      batchSize: setup.batchTokens,
      flashAttention: setup.flashAttention,
      threads: { ideal: this.options.threads, min: this.options.threads },
      experimentalKvCacheKeyType: setup.cache,
      experimentalKvCacheValueType: setup.cache,
    });
    const sequence = context.getSequence();
    this.#context = { name, context, sequence };
    requireAsAsked(context, setup, this.options.threads);
    return sequence;
  }

  async #modelFor(matrices: GgufTensorType): Promise<LlamaModel> {
    if (this.#model?.matrices === matrices) return this.#model.model;
    await this.#model?.model.dispose();
    this.#model = null;
    const modelPath = this.options.files[matrices];
    const model = await this.llama.loadModel({ modelPath, gpuLayers: 0 });
    this.#model = { matrices, model };
    return model;
  }
}

/** Only the last row's logits are computed. */
function evaluateItems(ids: Uint32Array): EvaluateItem[] {
  const items: EvaluateItem[] = Array.from(ids);
  const generateNext = { token: true, confidence: true, options: { temperature: 0 } } as const;
  items.push([Number(items.pop()), { generateNext }]);
  return items;
}

/** The package treats some options as hints; a comparison does not. */
function requireAsAsked(
  { currentThreads, flashAttention, batchSize }: LlamaContext,
  setup: LlamaSetup,
  threads: number,
): void {
  const is = JSON.stringify([currentThreads, flashAttention, batchSize]);
  const wanted = JSON.stringify([threads, setup.flashAttention, setup.batchTokens]);
  if (is === wanted) return;
  throw new Error(`llama.cpp has threads, flash attention and batch ${is}, not ${wanted}`);
}
