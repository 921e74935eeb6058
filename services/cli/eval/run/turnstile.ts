/** Lets a bounded number through at a time, in order of arrival. */
export class Turnstile {
  #inside = 0;
  readonly #waiting: (() => void)[] = [];

  /** @param places how many may be inside */
  constructor(readonly places: number) {}

  /** Does something when there is a place. */
  async pass<T>(act: () => Promise<T>): Promise<T> {
    if (this.#inside >= this.places) {
      await new Promise<void>((enter) => this.#waiting.push(enter));
    } else {
      this.#inside += 1;
    }
    try {
      return await act();
    } finally {
      const next = this.#waiting.shift();
      if (next === undefined) this.#inside -= 1;
      else next(); // the place goes over to it
    }
  }
}
