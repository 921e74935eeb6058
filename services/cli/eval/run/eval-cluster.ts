import { setMaxListeners } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { ServingError, type ErrorCode } from '../../../domain/serving-error.js';
import type { AnswerEvent } from '../../rpc/answer-events.js';
import { RouterUnreachable } from '../../rpc/router-error.js';
import type { ForkedSession } from '../../rpc/router-client.js';
import type { Routers } from '../../rpc/routers.js';
import type { GenerateOptions } from '../../rpc/to-header.js';

/** Refusals before any work, which end when others end: waited for as long as the patience says. */
const REFUSALS: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  ...(['VALUE_STORE_FULL', 'TOO_MANY_SESSIONS', 'QUEUE_FULL', 'SESSION_BUSY'] as const),
  ...(['NO_WORKER', 'NO_DECODE', 'REDIS_UNAVAILABLE', 'SHUTTING_DOWN'] as const),
]);
/** The session is not there any more: what was prefilled has to be prefilled again. */
const GONE: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  ...(['SESSION_NOT_FOUND', 'SESSION_ENDED', 'SESSION_LOST'] as const),
]);
/** Work that was lost and may be begun again, but not for ever. */
const LOSSES: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  ...GONE,
  ...(['WORKER_LOST', 'DECODE_LOST', 'UPLOAD_LOST', 'DATA_LOSS'] as const),
]);
const MOST_LOSSES = 5;
const PAUSE_MS = 1_000;
/** A router that is started again needs some seconds. */
const MOST_END_TRIES = 4;

/** What a run asks of its cluster, and how long it waits for one that is away. */
export class EvalCluster {
  #heardMs = performance.now();

  /** @param patienceMs how long to go on without hearing anything from the cluster */
  constructor(
    private readonly routers: Routers,
    readonly model: string,
    private readonly patienceMs: number,
    readonly signal: AbortSignal,
    private readonly onLost: (line: string) => void,
  ) {
    setMaxListeners(0, signal); // each call that runs listens to it
  }

  async *generate(options: GenerateOptions, ids: readonly number[]): AsyncGenerator<AnswerEvent> {
    const { signal, patienceMs } = this;
    const onLost = (lost: string, next: string): void => {
      const where = next === lost ? 'asking it again' : `going on at ${next}`;
      this.onLost(`router ${lost} is gone; ${where}`);
    };
    const events = this.routers.generate(
      options,
      { kind: 'ids', ids },
      { signal, onLost, patienceMs },
    );
    for await (const event of events) {
      this.#heardMs = performance.now();
      yield event;
    }
  }

  /** @param keepSessionMs until the fork's turn begins */
  async fork(sessionId: string, keepSessionMs: number): Promise<ForkedSession> {
    this.signal.throwIfAborted();
    const forked = await this.routers.fork(sessionId, keepSessionMs);
    this.#heardMs = performance.now();
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
        if (!isOf(REFUSALS, error) && !(error instanceof RouterUnreachable)) return;
      }
      if (tries < MOST_END_TRIES) await delay(PAUSE_MS);
    }
  }

  /**
   * Does something again until it succeeds, while the cluster can be expected to come round: it waits
   * as long as anything is heard of the cluster within the patience, and stands a few losses.
   *
   * @param isFinal failures that are not worth another try here
   */
  async surely<T>(act: () => Promise<T>, isFinal: (error: unknown) => boolean): Promise<T> {
    for (let losses = 0; ;) {
      try {
        return await act();
      } catch (error) {
        this.signal.throwIfAborted();
        if (isOf(LOSSES, error)) losses += 1;
        const isPatient = performance.now() - this.#heardMs < this.patienceMs;
        const goesOn = mayPass(error) && !isFinal(error) && losses < MOST_LOSSES && isPatient;
        if (!goesOn) throw error;
        if (error instanceof RouterUnreachable) this.onLost('no router answers; asking again');
      }
      await delay(PAUSE_MS, undefined, { signal: this.signal });
    }
  }
}

/** Whether the same call may succeed another time. */
export function mayPass(error: unknown): boolean {
  return isOf(LOSSES, error) || isOf(REFUSALS, error) || error instanceof RouterUnreachable;
}

/** Whether a kept session that a call named does not exist any more. */
export function isSessionGone(error: unknown): boolean {
  return isOf(GONE, error);
}

function isOf(codes: ReadonlySet<ErrorCode>, error: unknown): boolean {
  return error instanceof ServingError && codes.has(error.code);
}
