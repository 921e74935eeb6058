import type { ComputeDtype, Device } from '../../../native/ts/index.js';

/** What decides a search's result, besides the model. */
export interface SearchOptions {
  /** Of each prompt, at most. */
  readonly tokens: number;
  /** Prompts that patterns are chosen by. */
  readonly prompts: number;
  /** Prompts that the choice is checked on. */
  readonly heldOut: number;
  /** Most key tiles of a query block. */
  readonly tiles: number;
  /** Chunks that end here or before are dense, as in serving. */
  readonly denseBelowTokens: number;
  readonly seed: number;
  readonly device: Device;
  readonly dtype: ComputeDtype;
}

/** Where a search reads and writes, and how it runs. */
export interface SearchCall {
  readonly modelDirectory: string;
  readonly outFile: string;
  /** Folder of .txt files that prose is taken from; null: Moby Dick. */
  readonly textFolder: string | null;
  /** Of the engine; 0: one a core. */
  readonly threads: number;
  /** Begin anew where an earlier search was stopped. */
  readonly fresh: boolean;
}
