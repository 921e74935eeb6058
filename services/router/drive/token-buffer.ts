/**
 * Prompt ids between the upload and the chunks. One side appends, the other waits and takes; ids are
 * dropped once the chunks that hold them are stored.
 */
export class TokenBuffer {
  #ids = new Uint32Array(4_096);
  /** Position of #ids[0]. */
  #base: number;
  #received: number;
  #closed = false;
  #wake: (() => void) | null = null;

  /** @param base position of the first id that will be appended */
  constructor(base = 0) {
    this.#base = base;
    this.#received = base;
  }

  /** Ids before it are not held any more. */
  get base(): number {
    return this.#base;
  }

  get received(): number {
    return this.#received;
  }

  get closed(): boolean {
    return this.#closed;
  }

  append(ids: Uint32Array): void {
    const held = this.#received - this.#base;
    if (held + ids.length > this.#ids.length) {
      const grown = new Uint32Array(Math.max(this.#ids.length * 2, held + ids.length));
      grown.set(this.#ids.subarray(0, held));
      this.#ids = grown;
    }
    this.#ids.set(ids, held);
    this.#received += ids.length;
    this.#notify();
  }

  /** The prompt is complete. */
  close(): void {
    this.#closed = true;
    this.#notify();
  }

  /** Ids of [begin, end), which must be held. */
  slice(begin: number, end: number): Uint32Array {
    return this.#ids.slice(begin - this.#base, end - this.#base);
  }

  /** Forgets the ids before `position`, which must have been received. */
  drop(position: number): void {
    if (position <= this.#base) return;
    this.#ids.copyWithin(0, position - this.#base, this.#received - this.#base);
    this.#base = position;
  }

  /** Settles at the next append or close; rejects with the signal's reason. */
  async changed(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    return new Promise((resolve, reject) => {
      const onAbort = (): void => {
        this.#wake = null;
        reject(signal.reason as Error);
      };
      signal.addEventListener('abort', onAbort, { once: true });
      this.#wake = () => {
        signal.removeEventListener('abort', onAbort);
        resolve();
      };
    });
  }

  #notify(): void {
    this.#wake?.();
    this.#wake = null;
  }
}
