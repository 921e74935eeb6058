/** Longest delay that setTimeout takes. */
const MAX_DELAY_MS = 2 ** 31 - 1;

/** Calls `ring` at a Unix time, however far it is. Returns the function that stops it. */
export function ringAt(unixMs: number, nowUnixMs: () => number, ring: () => void): () => void {
  let timer: NodeJS.Timeout;
  const arm = (): void => {
    const left = unixMs - nowUnixMs();
    timer =
      left > MAX_DELAY_MS ? setTimeout(arm, MAX_DELAY_MS) : setTimeout(ring, Math.max(left, 0));
  };
  arm();
  return () => {
    clearTimeout(timer);
  };
}

/** A bell that rings once, unless it is set anew or stopped before. */
export class Alarm {
  #stop: () => void = () => undefined;

  constructor(private readonly nowUnixMs: () => number) {}

  set(unixMs: number, ring: () => void): void {
    this.stop();
    this.#stop = ringAt(unixMs, this.nowUnixMs, ring);
  }

  stop(): void {
    this.#stop();
  }
}
