import type { EvalDocument, MetricName, TokenCounter } from '../eval-types.js';
import type { TaskNeed, TaskSources } from './task-sources.js';

/** Which document is wanted, and what it is made with. */
export interface TaskRequest {
  /** Prompt and answer together, tokens. */
  readonly lengthTokens: number;
  /** Number of the document in its cell, from 0. */
  readonly index: number;
  readonly seed: number;
  /** The served model's. */
  readonly counter: TokenCounter;
  readonly sources: TaskSources;
  /** What the chat template adds to one user message, with the assistant's turn begun; default 0. */
  readonly templateTokens?: number;
  /**
   * Questions asked of one document, each about needles or a chain of its own. Default: 1 for RULER,
   * which is RULER exactly; `midprompt` as many as have room, up to 16. cwe, fwe and qa stay at 1.
   */
  readonly questionsPerDocument?: number;
  /** Depths of `needle`, from 0 to 100 % in even steps; default 10. One question each. */
  readonly depths?: number;
}

/** A task that `longshadow eval` can run. */
export interface TaskDefinition {
  readonly name: string;
  /** One line for a list of tasks. */
  readonly summary: string;
  readonly needs: readonly TaskNeed[];
  /** Null: the answer is the log-probability of spans of the text. */
  readonly metric: MetricName | null;
  readonly maxNewTokens: number;
  /** @throws ServingError BAD_REQUEST if the length has no room for the task, or a file is wrong */
  readonly make: (request: TaskRequest) => Promise<EvalDocument>;
}
