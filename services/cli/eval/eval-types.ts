/** How a prediction is scored; each metric gives 0 to 1. score/score.ts says which benchmark uses it. */
export const METRIC_NAMES = [
  'string_match_all',
  'string_match_part',
  'qa_f1',
  'qa_f1_first_line',
  'qa_f1_zh',
  'character_f1_zh',
  'rouge_l',
  'rouge_l_first_line',
  'rouge_l_zh',
  'rouge_lsum',
  'classification',
  'retrieval',
  'retrieval_zh',
  'count',
  'code_similarity',
  'choice',
  'first_number',
  'last_integer',
  'leading_integers',
  'math_find',
  'kv_retrieval',
  'dialogue_name',
  'code_debug',
] as const;

export type MetricName = (typeof METRIC_NAMES)[number];

/** Counts the tokens of a text as the served model would, special tokens aside. */
export type TokenCounter = (text: string) => Promise<number>;

/** One question about a document. */
export interface EvalQuestion {
  /** Unique within its document. */
  readonly id: string;
  /** Continues the document's text inside the same user message. */
  readonly questionText: string;
  /** The assistant's turn begins with this; not part of the prediction. */
  readonly answerPrefix: string;
  readonly references: readonly string[];
  readonly metric: MetricName;
  /** Every class a `classification` may name; absent for other metrics. */
  readonly classes?: readonly string[];
  readonly maxNewTokens: number;
  /** What a picture or table may group by, such as `depthPercent`. */
  readonly facts: Readonly<Record<string, string | number>>;
}

/** A span of a document's text whose tokens' log-probabilities are wanted. */
export interface LogprobTarget {
  /** Unique within its document. */
  readonly id: string;
  /** Characters (UTF-16 units) of promptText. */
  readonly beginCharacter: number;
  readonly endCharacter: number;
  readonly facts: Readonly<Record<string, string | number>>;
}

/** What is prefilled once, and what is asked of it. */
export interface EvalDocument {
  /** Unique in a run and the same in every run of the same seed: `task/length/index`. */
  readonly id: string;
  readonly task: string;
  /** The cell's length, tokens; what the document was fitted to. */
  readonly lengthTokens: number;
  readonly promptText: string;
  /** False: promptText is raw text and no chat template is applied (perplexity). */
  readonly chat: boolean;
  readonly questions: readonly EvalQuestion[];
  readonly logprobTargets: readonly LogprobTarget[];
}

/** One line of a run's results file. */
export interface SampleResult {
  readonly documentId: string;
  readonly questionId: string;
  readonly task: string;
  readonly lengthTokens: number;
  /** Name of the policy that served it, such as `dense`. */
  readonly policy: string;
  readonly promptTokens: number;
  /** Null for a log-probability target. */
  readonly prediction: string | null;
  readonly references: readonly string[];
  /** 0 to 1; for a log-probability target 1 if every token was the likeliest, else 0. */
  readonly score: number;
  /** Sum over the target's tokens, natural log; null for a question. */
  readonly logprobSum: number | null;
  readonly targetTokens: number | null;
  /** The worst rank of a target's tokens, 1 = likeliest. */
  readonly worstRank: number | null;
  readonly facts: Readonly<Record<string, string | number>>;
  readonly timeToFirstTokenMs: number | null;
  /**
   * Share of dense attention's keys that the document's prefill attended to; null where it was not
   * measured.
   */
  readonly tileDensity: number | null;
}
