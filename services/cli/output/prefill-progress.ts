import { Presets, SingleBar } from 'cli-progress';
import { formatCount, formatDuration, tokensPerSecond } from './format.js';

/** How often a line is written where there is no terminal. */
const PLAIN_EVERY_MS = 5_000;

/** Prefill's progress on stderr: a bar on a terminal, a line now and then elsewhere. */
export class PrefillProgress {
  readonly #bar: SingleBar | null;
  #state: 'new' | 'running' | 'stopped' = 'new';
  #isRestarted = false;
  #startedMs = 0;
  #startTokens = 0;
  #writtenMs = -Infinity;
  #figures = '';

  /** @param now milliseconds, any origin */
  constructor(
    private readonly stream: NodeJS.WriteStream,
    private readonly now: () => number,
  ) {
    const format = 'prefill {bar} {percentage}%  {figures}';
    this.#bar = stream.isTTY
      ? new SingleBar({ stream, hideCursor: true, linewrap: false, format }, Presets.shades_classic)
      : null;
  }

  /** @param totalTokens null while the upload is open */
  update(
    processedTokens: number,
    totalTokens: number | null,
    cachedTokens: number,
    etaMs: number | null,
  ): void {
    if (this.#state === 'stopped') return;
    const now = this.now();
    if (this.#state === 'new') {
      this.#state = 'running';
      this.#startedMs = now;
      this.#startTokens = this.#isRestarted ? processedTokens : cachedTokens;
      this.#bar?.start(1, 0, { figures: '' });
    }
    const rate = tokensPerSecond(processedTokens - this.#startTokens, now - this.#startedMs);
    this.#figures = [
      `${formatCount(processedTokens)} of ${totalTokens === null ? '?' : formatCount(totalTokens)} tokens`,
      rate > 0 ? `${formatCount(rate)} tokens/s` : '',
      etaMs === null || etaMs === 0 ? '' : `${formatDuration(etaMs)} left`,
    ]
      .filter((figure) => figure !== '')
      .join(', ');
    if (this.#bar !== null) {
      // Without a total the bar stays empty.
      this.#bar.setTotal(Math.max(totalTokens ?? 1, 1));
      this.#bar.update(totalTokens === null ? 0 : processedTokens, { figures: this.#figures });
    } else if (now - this.#writtenMs >= PLAIN_EVERY_MS) {
      this.#writtenMs = now;
      this.#writePlain();
    }
  }

  /** As stop(), but what comes next shows again: from where it stands then. */
  restart(): void {
    this.stop();
    this.#state = 'new';
    this.#isRestarted = true;
    this.#writtenMs = -Infinity;
  }

  /** Ends the bar, once; what is written next begins on a line of its own. */
  stop(): void {
    if (this.#state !== 'running') return;
    this.#state = 'stopped';
    if (this.#bar !== null) this.#bar.stop();
    else this.#writePlain();
  }

  #writePlain(): void {
    if (this.#figures !== '') this.stream.write(`prefill ${this.#figures}\n`);
    this.#figures = '';
  }
}
