/*
 * What the benchmark uses of node-llama-cpp. The package is not one of the project's, so its types
 * are absent where it was not installed; these are written by hand for the pinned version.
 */

/** A token to evaluate, or one after which the next token is wanted. */
export type EvaluateItem =
  | number
  | readonly [
      token: number,
      options: {
        readonly generateNext: {
          readonly token: true;
          readonly confidence: true;
          readonly options: { readonly temperature: 0 };
        };
      },
    ];

export interface LlamaSequence {
  clearHistory(): Promise<void>;
  controlledEvaluate(
    items: readonly EvaluateItem[],
  ): Promise<({ readonly next: { token?: number | null; confidence?: number } } | undefined)[]>;
}

export interface LlamaContext {
  readonly batchSize: number;
  readonly currentThreads: number;
  readonly flashAttention: boolean;
  getSequence(): LlamaSequence;
  dispose(): Promise<void>;
}

export interface LlamaModel {
  createContext(options: {
    contextSize: number;
    batchSize: number;
    flashAttention: boolean;
    threads: { ideal: number; min: number };
    experimentalKvCacheKeyType: string;
    experimentalKvCacheValueType: string;
  }): Promise<LlamaContext>;
  dispose(): Promise<void>;
}

export interface Llama {
  readonly systemInfo: string;
  readonly buildType: string;
  readonly llamaCppRelease: { readonly repo: string; readonly release: string };
  loadModel(options: { modelPath: string; gpuLayers: number }): Promise<LlamaModel>;
  dispose(): Promise<void>;
}

interface LlamaPackage {
  getLlama: (options: {
    gpu: false;
    build: 'never';
    skipDownload: boolean;
    progressLogs: boolean;
    maxThreads: number;
    logLevel: string;
  }) => Promise<Llama>;
}

/** A variable, so that import checks do not look for a package that only this benchmark installs. */
const PACKAGE = 'node-llama-cpp';

/** llama.cpp on the CPU, from the package's own binary: nothing is built or downloaded. */
export async function loadLlama(threads: number): Promise<Llama> {
  const { getLlama } = (await import(PACKAGE)) as LlamaPackage;
  return getLlama({
    gpu: false,
    build: 'never',
    skipDownload: true,
    progressLogs: false,
    maxThreads: threads,
    logLevel: 'error',
  });
}
