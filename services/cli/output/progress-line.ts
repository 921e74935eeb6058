import { Presets, SingleBar } from 'cli-progress';

/** How often a line is written where there is no terminal. */
const PLAIN_EVERY_MS = 5_000;

/** How far a long piece of work is: a bar on a terminal, a line now and then elsewhere. */
export class ProgressLine {
  readonly #bar: SingleBar | null;
  #figures = '';
  #writtenMs = -Infinity;

  /**
   * @param name that each line begins with
   * @param share that is done already, [0, 1]
   * @param now milliseconds, any origin
   */
  constructor(
    private readonly stream: NodeJS.WriteStream,
    private readonly name: string,
    share: number,
    private readonly now: () => number,
  ) {
    const format = `${name} {bar} {percentage}%  {figures}`;
    this.#bar = stream.isTTY
      ? new SingleBar({ stream, hideCursor: true, linewrap: false, format }, Presets.shades_classic)
      : null;
    this.#bar?.start(1, share, { figures: '' });
  }

  /** @param share done, [0, 1] */
  show(share: number, figures: string): void {
    this.#figures = figures;
    this.#bar?.update(share, { figures });
    if (this.#bar === null && this.now() - this.#writtenMs >= PLAIN_EVERY_MS) this.#writePlain();
  }

  /** What is written next begins on a line of its own. */
  stop(): void {
    if (this.#bar !== null) this.#bar.stop();
    else if (this.#figures !== '') this.#writePlain();
  }

  #writePlain(): void {
    this.#writtenMs = this.now();
    this.stream.write(`${this.name} ${this.#figures}\n`);
    this.#figures = '';
  }
}
