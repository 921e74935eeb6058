import type { EvalDocument, MetricName, TokenCounter } from '../eval-types.js';

export const BENCHMARK_NAMES = ['infinitebench', 'longbench'] as const;

export type BenchmarkName = (typeof BENCHMARK_NAMES)[number];

/** Which of InfiniteBench's two published wordings; LongBench has one. */
export type PromptWording = 'base' | 'chat';

/** One task of a benchmark: a file of samples and how they are asked and scored. */
export interface BenchmarkTask {
  /** Also the file's name, less `.jsonl`. */
  readonly name: string;
  /** Holds {context} once, and names of the samples' other values. */
  readonly template: string;
  /** False: asked as raw text, without the model's chat template. */
  readonly chat: boolean;
  readonly metric: MetricName;
  readonly maxNewTokens: number;
  /** Reads one line's value. @throws z.ZodError naming the field that is wrong */
  readonly parse: (value: unknown) => BenchmarkSample;
}

/** One line of a task's file. */
export interface BenchmarkSample {
  readonly context: string;
  /** What the template names besides the context. */
  readonly values: Readonly<Record<string, string>>;
  /** As the task's metric wants them. */
  readonly references: readonly string[];
  /** Empty except for a classification. */
  readonly classes: readonly string[];
}

/** How documents are made of samples. */
export interface BenchmarkOptions {
  /** Default: every task that has a file in the folder. */
  readonly tasks?: readonly string[];
  /** Prompt and answer together, tokens; longer documents lose their middle. */
  readonly lengthTokens: number;
  /** The served model's. */
  readonly countTokens: TokenCounter;
  /** What the model's template (or, for raw text, its first token) adds to a prompt; default 0. */
  readonly templateTokens?: (chat: boolean) => Promise<number>;
  /** Lines read of each file, from the first; default all. */
  readonly maxSamplesPerTask?: number;
  /** Default `base`, whose limits on new tokens are the published ones. */
  readonly wording?: PromptWording;
}

/** A document that is read and cut when its turn comes: all of a benchmark's are gigabytes. */
export interface BenchmarkDocument {
  /** `task/length/index`. */
  readonly id: string;
  readonly task: string;
  readonly questionCount: number;
  /** @throws ServingError BAD_REQUEST if the length has no room for a question, or the file changed */
  readonly make: () => Promise<EvalDocument>;
}
