import { setMaxListeners } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import type { AnswerEvent } from '../../rpc/answer-events.js';
import type { Prompt } from '../../rpc/prompt-parts.js';
import { RouterUnreachable } from '../../rpc/router-error.js';
import type { ForkedSession } from '../../rpc/router-client.js';
import type { Routers } from '../../rpc/routers.js';
import type { GenerateOptions } from '../../rpc/to-header.js';
import { type Failures, isRefusal, Patience } from './patience.js';

const PAUSE_MS = 1_000;
/** Events that are no mere promises. */
const WORK: ReadonlySet<AnswerEvent['type']> = new Set(['progress', 'token', 'finished']);
/** A router that is started again needs some seconds. */
const MOST_END_TRIES = 4;

/** What a run asks of its cluster, and how long it waits for one that is away. */
export class EvalCluster {
  readonly #patience: Patience;
  /** Failures that a call inside has already waited for: a call around it does not wait again. */
  readonly #givenUp = new WeakSet<object>();

  /** @param patienceMs how long to go on with a cluster that is silent, from its first failure on */
  constructor(
    private readonly routers: Routers,
    readonly model: string,
    private readonly patienceMs: number,
    readonly signal: AbortSignal,
    private readonly onLost: (line: string) => void,
  ) {
    this.#patience = new Patience(patienceMs);
    setMaxListeners(0, signal); // each call that runs listens to it
  }

  async *generate(options: GenerateOptions, prompt: Prompt): AsyncGenerator<AnswerEvent> {
    const { signal, patienceMs } = this;
    const onLost = (lost: string, next: string): void => {
      const where = next === lost ? 'asking it again' : `going on at ${next}`;
      this.onLost(`router ${lost} is gone; ${where}`);
    };
    const events = this.routers.generate(options, prompt, { signal, onLost, patienceMs });
    for await (const event of events) {
      this.#patience.heard(WORK.has(event.type));
      yield event;
    }
  }

  /** @param keepSessionMs until the fork's turn begins */
  async fork(sessionId: string, keepSessionMs: number): Promise<ForkedSession> {
    this.signal.throwIfAborted();
    const forked = await this.routers.fork(sessionId, keepSessionMs);
    this.#patience.heard(true);
    return forked;
  }

  /** Stops a turn, as well as can be. A session that goes on nevertheless ends by its own time. */
  async cancel(sessionId: string): Promise<void> {
    await this.#end(async () => this.routers.cancel(sessionId));
  }

  /** Frees a kept session, as well as can be. */
  async release(sessionId: string): Promise<void> {
    await this.#end(async () => this.routers.release(sessionId));
  }

  /** Also after the run was stopped: what is left in the cluster would stay for long. */
  async #end(act: () => Promise<boolean>): Promise<void> {
    for (let tries = 1; tries <= MOST_END_TRIES; tries += 1) {
      try {
        await act();
        return;
      } catch (error) {
        if (!isRefusal(error)) return;
      }
      if (tries < MOST_END_TRIES) await delay(PAUSE_MS);
    }
  }

  /**
   * Does something again until it succeeds, while the cluster can be expected to come round: it waits
   * for room as it is told, for a silent cluster as long as the patience says, and stands a few losses.
   *
   * @param isFinal failures that are not worth another try here
   */
  async surely<T>(act: () => Promise<T>, isFinal: (error: unknown) => boolean): Promise<T> {
    const row = this.#patience.begin();
    for (;;) {
      let pauseMs: number;
      try {
        return await act();
      } catch (error) {
        this.signal.throwIfAborted();
        pauseMs = this.#pauseAfter(error, row, isFinal);
      }
      await delay(pauseMs, undefined, { signal: this.signal });
    }
  }

  /** @throws the error when there is no use in going on */
  #pauseAfter(error: unknown, row: Failures, isFinal: (error: unknown) => boolean): number {
    const isKnown = error instanceof Error;
    if (!isKnown || this.#givenUp.has(error) || isFinal(error)) throw error;
    const pauseMs = this.#patience.pauseAfter(error, row);
    if (pauseMs === null) {
      this.#givenUp.add(error);
      throw error;
    }
    if (error instanceof RouterUnreachable) this.onLost('no router answers; asking again');
    return pauseMs;
  }
}
