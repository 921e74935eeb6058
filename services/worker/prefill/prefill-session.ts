import type { PrefillSessionHandle } from '../../../native/ts/index.js';
import type { ChunkWork } from '../../domain/prefill-cost.js';
import type { PromptLogprob } from '../../domain/session-event.js';
import type { ErrorCode } from '../../domain/serving-error.js';
import type { SparseWork } from '../../domain/sparse-work.js';

/** Why a session's native work was interrupted from here; null while it runs undisturbed. */
export type Interruption = Extract<
  ErrorCode,
  'CANCELLED' | 'DEADLINE_EXCEEDED' | 'SESSION_ENDED' | 'STALE_EPOCH' | 'SHUTTING_DOWN'
>;

/** A session that is open in this process: its native handle and what has run on it. */
export class PrefillSession {
  /** Chunks that ran here, for the estimate of what is left. */
  readonly finished: ChunkWork[] = [];
  /** Log-probabilities of finished chunks, by first token, until their events are appended. */
  readonly unreported = new Map<number, readonly PromptLogprob[]>();
  /** Of chunks that ran here under a sparse policy, by first token: a repeated job tells it again. */
  readonly sparseWork = new Map<number, SparseWork>();
  handOff: Uint8Array | null = null;
  interruption: Interruption | null = null;
  readonly #running = new Map<string, Promise<unknown>>();

  constructor(
    readonly sessionId: string,
    readonly epoch: number,
    readonly handle: PrefillSessionHandle,
  ) {}

  get busy(): boolean {
    return this.#running.size > 0;
  }

  /** Runs `work`, or joins the run of the same name. */
  once<T>(name: string, work: () => Promise<T>): Promise<T> {
    const joined = this.#running.get(name);
    // Same name, same work: names are made in one place, prefill-jobs.ts.
    if (joined !== undefined) return joined as Promise<T>;
    const run = work().finally(() => this.#running.delete(name));
    this.#running.set(name, run);
    return run;
  }

  /** Settles when nothing runs, however the runs ended. */
  async idle(): Promise<void> {
    while (this.busy) await Promise.allSettled(this.#running.values());
  }
}
