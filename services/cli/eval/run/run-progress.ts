import { Presets, SingleBar } from 'cli-progress';
import { formatDuration } from '../../output/format.js';
import type { SampleResult } from '../eval-types.js';
import type { FinishedUnit } from './run-documents.js';

/** How far a run is, on stderr: a bar on a terminal, a line for each document elsewhere. */
export class RunProgress {
  readonly #bar: SingleBar | null;
  #done: number;
  readonly #samples: SampleResult[] = [];
  readonly #startedMs: number;
  readonly #doneBefore: number;

  /**
   * @param total documents times policies
   * @param done of them, by an earlier start
   * @param now milliseconds, any origin
   */
  constructor(
    private readonly stream: NodeJS.WriteStream,
    private readonly total: number,
    done: number,
    private readonly now: () => number,
  ) {
    this.#done = done;
    this.#doneBefore = done;
    this.#startedMs = now();
    const format = 'eval {bar} {value} of {total} documents  {figures}';
    this.#bar = stream.isTTY
      ? new SingleBar({ stream, hideCursor: true, linewrap: false, format }, Presets.shades_classic)
      : null;
    if (done > 0) this.note(`going on after ${String(done)} of ${String(total)} documents`);
    this.#bar?.start(total, done, { figures: '' });
  }

  finished({ documentId, policy, samples, ms }: FinishedUnit): void {
    this.#done += 1;
    this.#samples.push(...samples);
    const left = `${formatDuration(this.#leftMs())} left`;
    if (this.#bar !== null) {
      this.#bar.update(this.#done, { figures: `${describeSamples(this.#samples)}, ${left}` });
      return;
    }
    const place = `[${String(this.#done)}/${String(this.total)}]`;
    const said = describeSamples(samples);
    this.stream.write(
      `${place} ${documentId} ${policy}: ${said}, ${formatDuration(ms)}; ${left}\n`,
    );
  }

  /** A line besides the bar. */
  note(line: string): void {
    this.stream.write(this.#bar === null ? `${line}\n` : `\r\u001b[K${line}\n`);
  }

  stop(): void {
    this.#bar?.stop();
  }

  #leftMs(): number {
    const finished = this.#done - this.#doneBefore;
    return ((this.now() - this.#startedMs) / Math.max(finished, 1)) * (this.total - this.#done);
  }
}

/** `10 answers, mean score 0.900`, `16 spans, mean log-probability -0.021`, or both. */
function describeSamples(samples: readonly SampleResult[]): string {
  const answers = samples.filter(({ logprobSum }) => logprobSum === null);
  const spans = samples.filter(({ logprobSum }) => logprobSum !== null);
  const sum = (values: readonly number[]): number => values.reduce((all, value) => all + value, 0);
  const score = sum(answers.map((answer) => answer.score)) / answers.length;
  const tokens = sum(spans.map(({ targetTokens }) => targetTokens ?? 0));
  const logprob = sum(spans.map(({ logprobSum }) => logprobSum ?? 0)) / tokens;
  return [
    ...(answers.length === 0
      ? []
      : [`${String(answers.length)} answers, mean score ${score.toFixed(3)}`]),
    ...(spans.length === 0
      ? []
      : [`${String(spans.length)} spans, mean log-probability ${logprob.toFixed(3)}`]),
  ].join(', ');
}
