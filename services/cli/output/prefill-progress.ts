import { MultiBar, Presets, type SingleBar } from 'cli-progress';
import { formatCount, formatDuration, tokensPerSecond } from './format.js';

/** How often a line is written where there is no terminal. */
const PLAIN_EVERY_MS = 5_000;

/** Prefill's progress on stderr: a bar on a terminal, a line now and then elsewhere. */
export class PrefillProgress {
  readonly #bars: MultiBar | null;
  #bar: SingleBar | null = null;
  #startedMs: number | null = null;
  #startTokens = 0;
  #plainMs = 0;
  #last = '';

  /** @param now milliseconds, any origin */
  constructor(
    private readonly stream: NodeJS.WriteStream,
    private readonly now: () => number,
  ) {
    this.#bars = stream.isTTY
      ? new MultiBar(
          {
            stream,
            hideCursor: true,
            clearOnComplete: false,
            linewrap: false,
            format: 'prefill {bar} {percentage}%  {figures}',
          },
          Presets.shades_classic,
        )
      : null;
  }

  /** @param totalTokens null while the upload is open */
  update(
    processedTokens: number,
    totalTokens: number | null,
    cachedTokens: number,
    etaMs: number | null,
  ): void {
    const now = this.now();
    if (this.#startedMs === null) {
      this.#startedMs = now;
      this.#startTokens = cachedTokens;
    }
    const done = processedTokens - this.#startTokens;
    const rate = tokensPerSecond(done, now - this.#startedMs);
    const figures = [
      `${formatCount(processedTokens)} of ${totalTokens === null ? '?' : formatCount(totalTokens)} tokens`,
      rate > 0 ? `${formatCount(rate)} tokens/s` : '',
      etaMs === null || etaMs === 0 ? '' : `${formatDuration(etaMs)} left`,
    ]
      .filter((figure) => figure !== '')
      .join(', ');
    this.#last = `prefill ${figures}`;
    if (this.#bars === null) {
      if (now - this.#plainMs < PLAIN_EVERY_MS) return;
      this.#plainMs = now;
      this.stream.write(`${this.#last}\n`);
      return;
    }
    this.#bar ??= this.#bars.create(Math.max(totalTokens ?? processedTokens, 1), 0);
    this.#bar.setTotal(Math.max(totalTokens ?? processedTokens, 1));
    this.#bar.update(processedTokens, { figures });
  }

  /** Ends the bar; what is written next begins on a line of its own. */
  stop(): void {
    if (this.#bars !== null) this.#bars.stop();
    else if (this.#last !== '') this.stream.write(`${this.#last}\n`);
    this.#last = '';
  }
}
