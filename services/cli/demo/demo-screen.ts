const BOLD = '1';
const DIM = '2';
const GREEN = '32';
const RED = '31';
const CYAN = '36';

const NAME_WIDTH = 10;

/** The demo's page: colours on a terminal, plain lines elsewhere. */
export class DemoScreen {
  #lineOpen = false;

  constructor(
    private readonly stream: NodeJS.WriteStream,
    private readonly colours: boolean,
  ) {}

  title(text: string): void {
    this.#line(this.#paint(BOLD, text));
  }

  /** A named line; the names form a column. */
  step(name: string, text: string): void {
    const colour = name === 'wrong' ? RED : name === 'right' ? GREEN : CYAN;
    this.#line(`${this.#paint(colour, name.padEnd(NAME_WIDTH))}${text}`);
  }

  /** A line below a step. */
  detail(text: string): void {
    this.#line(' '.repeat(NAME_WIDTH) + this.#paint(DIM, text));
  }

  /** What a service wrote. */
  note(text: string): void {
    this.#line(this.#paint(DIM, text));
  }

  beginAnswer(): void {
    this.#closeLine();
    this.stream.write(this.#paint(CYAN, 'answer'.padEnd(NAME_WIDTH)));
    this.#lineOpen = true;
  }

  answer(text: string): void {
    this.stream.write(this.#paint(BOLD, text));
  }

  endAnswer(): void {
    this.#closeLine();
  }

  #line(text: string): void {
    this.#closeLine();
    this.stream.write(`${text}\n`);
  }

  #closeLine(): void {
    if (this.#lineOpen) this.stream.write('\n');
    this.#lineOpen = false;
  }

  #paint(code: string, text: string): string {
    return this.colours && text !== '' ? `\u001b[${code}m${text}\u001b[0m` : text;
  }
}
