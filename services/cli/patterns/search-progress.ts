import { attentionPairs, DIAGONAL_KEYS } from '../../domain/prefill-cost.js';
import { planPrefillChunks } from '../../domain/plan-prefill-chunks.js';
import type { TokenRange } from '../../domain/token-range.js';
import { formatCount, formatDuration } from '../output/format.js';
import { ProgressLine } from '../output/progress-line.js';

/** What a token costs besides attention, as keys; and what trying patterns on it does. */
const OTHER_KEYS = 4_096;
const TRIAL_KEYS = 32_768;

/** What a search is made of, for its progress. */
export interface SearchExtent {
  readonly prompts: number;
  /** Of each prompt, about. */
  readonly tokens: number;
  readonly denseBelowTokens: number;
}

/** How far a search is, on stderr: a bar on a terminal, a line now and then elsewhere. */
export class SearchProgress {
  readonly #line: ProgressLine;
  readonly #startedMs: number;
  readonly #doneBefore: number;
  #prompt: number;
  #share = 0;

  /**
   * @param finished prompts that an earlier start has done
   * @param now milliseconds, any origin
   */
  constructor(
    stream: NodeJS.WriteStream,
    private readonly extent: SearchExtent,
    finished: number,
    private readonly now: () => number,
  ) {
    this.#prompt = finished;
    this.#doneBefore = finished;
    this.#startedMs = now();
    if (finished > 0) {
      stream.write(`going on after ${String(finished)} of ${String(extent.prompts)} prompts\n`);
    }
    this.#line = new ProgressLine(stream, 'patterns', finished / extent.prompts, now);
  }

  /** A chunk of the running prompt is through. */
  chunk({ endToken }: TokenRange, promptTokens: number): void {
    this.#share = this.#work(endToken, promptTokens) / this.#work(promptTokens, promptTokens);
    const { prompts } = this.extent;
    const done = this.#prompt + this.#share;
    const elapsedMs = this.now() - this.#startedMs;
    const leftMs = (elapsedMs / (done - this.#doneBefore)) * (prompts - done);
    const figures = [
      `prompt ${String(this.#prompt + 1)} of ${String(prompts)}`,
      `${formatCount(endToken)} of ${formatCount(promptTokens)} tokens`,
      `${formatDuration(leftMs)} left`,
    ].join(', ');
    this.#line.show(done / prompts, figures);
  }

  /** A whole prompt is through. */
  finishedPrompt(): void {
    this.#prompt += 1;
    this.#share = 0;
  }

  stop(): void {
    this.#line.stop();
  }

  /** Of a prompt's chunks up to `endToken`, as (query, key) pairs. */
  #work(endToken: number, promptTokens: number): number {
    const chunks = planPrefillChunks(promptTokens, 'cpu');
    return chunks
      .filter((chunk) => chunk.endToken <= endToken)
      .reduce((sum, chunk) => sum + this.#chunkWork(chunk), 0);
  }

  #chunkWork(chunk: TokenRange): number {
    const tried = chunk.endToken > this.extent.denseBelowTokens ? TRIAL_KEYS : 0;
    const keys = DIAGONAL_KEYS + OTHER_KEYS + tried;
    return attentionPairs(chunk) + keys * (chunk.endToken - chunk.beginToken);
  }
}
