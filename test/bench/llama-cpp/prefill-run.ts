/** One prompt from its ids to the next token, by either program. */
export interface PrefillRun {
  /** Until the next token is known; what is prepared beforehand is not in it. */
  readonly seconds: number;
  /** Processor time of the program meanwhile, all threads. */
  readonly cpuSeconds: number;
  /** The likeliest next token. */
  readonly nextToken: number;
  /** Its log-probability, natural. */
  readonly logprob: number;
}

/** A run of this project's engine. */
export interface OurRun extends PrefillRun {
  /** Share of dense attention's key tiles, (0, 1]. */
  readonly density: number;
}

export type NextToken = Pick<PrefillRun, 'nextToken' | 'logprob'>;

/** Runs `work` and measures it in this process. */
export async function timed<Result>(
  work: () => Promise<Result>,
): Promise<Result & Pick<PrefillRun, 'seconds' | 'cpuSeconds'>> {
  const cpuBefore = process.cpuUsage();
  const startMs = performance.now();
  const result = await work();
  const seconds = (performance.now() - startMs) / 1e3;
  const { user, system } = process.cpuUsage(cpuBefore);
  return { ...result, seconds, cpuSeconds: (user + system) / 1e6 };
}
