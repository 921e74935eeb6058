import { Presets, SingleBar } from 'cli-progress';
import { attentionPairs, DIAGONAL_KEYS } from '../../domain/prefill-cost.js';
import { planPrefillChunks } from '../../domain/plan-prefill-chunks.js';
import type { TokenRange } from '../../domain/token-range.js';
import { formatCount, formatDuration } from '../output/format.js';

/** How often a line is written where there is no terminal. */
const PLAIN_EVERY_MS = 5_000;
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
  readonly #bar: SingleBar | null;
  readonly #startedMs: number;
  readonly #doneBefore: number;
  #prompt: number;
  #share = 0;
  #figures = '';
  #writtenMs = -Infinity;

  /**
   * @param finished prompts that an earlier start has done
   * @param now milliseconds, any origin
   */
  constructor(
    private readonly stream: NodeJS.WriteStream,
    private readonly extent: SearchExtent,
    finished: number,
    private readonly now: () => number,
  ) {
    this.#prompt = finished;
    this.#doneBefore = finished;
    this.#startedMs = now();
    const format = 'patterns {bar} {percentage}%  {figures}';
    this.#bar = stream.isTTY
      ? new SingleBar({ stream, hideCursor: true, linewrap: false, format }, Presets.shades_classic)
      : null;
    if (finished > 0) {
      stream.write(`going on after ${String(finished)} of ${String(extent.prompts)} prompts\n`);
    }
    this.#bar?.start(1, finished / extent.prompts, { figures: '' });
  }

  /** A chunk of the running prompt is through. */
  chunk({ endToken }: TokenRange, promptTokens: number): void {
    this.#share = this.#work(endToken, promptTokens) / this.#work(promptTokens, promptTokens);
    const { prompts } = this.extent;
    const done = this.#prompt + this.#share;
    const elapsedMs = this.now() - this.#startedMs;
    const leftMs = (elapsedMs / (done - this.#doneBefore)) * (prompts - done);
    this.#figures = [
      `prompt ${String(this.#prompt + 1)} of ${String(prompts)}`,
      `${formatCount(endToken)} of ${formatCount(promptTokens)} tokens`,
      `${formatDuration(leftMs)} left`,
    ].join(', ');
    this.#bar?.update(done / prompts, { figures: this.#figures });
    if (this.#bar === null && this.now() - this.#writtenMs >= PLAIN_EVERY_MS) this.#writePlain();
  }

  /** A whole prompt is through. */
  finishedPrompt(): void {
    this.#prompt += 1;
    this.#share = 0;
  }

  stop(): void {
    if (this.#bar !== null) this.#bar.stop();
    else if (this.#figures !== '') this.#writePlain();
  }

  #writePlain(): void {
    this.#writtenMs = this.now();
    this.stream.write(`patterns ${this.#figures}\n`);
    this.#figures = '';
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
