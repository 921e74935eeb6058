import { status as grpcStatus, type ServiceError } from '@grpc/grpc-js';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Finished__Output } from '../../proto/gen/longshadow/router/v1/Finished.js';
import type { GenerateHeader } from '../../proto/gen/longshadow/router/v1/GenerateHeader.js';
import type { GenerateResponse__Output } from '../../proto/gen/longshadow/router/v1/GenerateResponse.js';
import type { PromptLogprob__Output } from '../../proto/gen/longshadow/router/v1/PromptLogprob.js';
import type { RouterServiceClient } from '../../proto/gen/longshadow/router/v1/RouterService.js';
import type { Token__Output } from '../../proto/gen/longshadow/router/v1/Token.js';
import assert from './assert.js';
import { MODEL } from './cluster.js';
import { idParts } from './generate.js';
import { poll } from './poll.js';

/** How long a client goes on asking for its session before it gives up. */
const PATIENCE_MS = 120_000;
const RESUME_PAUSE_MS = 100;
/** UNAVAILABLE of sessions that are no more: the prompt may be sent again, but not resumed. */
const GONE = /^(SESSION_LOST|UPLOAD_LOST): /;

export interface SeenEvent {
  readonly event: GenerateResponse__Output;
  /** performance.now() at its arrival. */
  readonly atMs: number;
}

/** A turn that ended well, as the client saw it, whatever happened on the way. */
export interface FaultAnswer {
  readonly sessionId: string;
  readonly tokens: readonly Token__Output[];
  readonly ids: readonly number[];
  readonly text: string;
  readonly promptLogprobs: readonly PromptLogprob__Output[];
  readonly finished: Finished__Output;
  /** Codes of the interrupted events. */
  readonly interruptions: readonly string[];
}

export interface CallOptions {
  /** The router that takes the prompt. */
  readonly router?: number;
  /** False: the client does not come back to a broken stream. */
  readonly resumes?: boolean;
  /** False: the upload stays open. */
  readonly closes?: boolean;
}

/**
 * A client as users should write one: it reads Generate, and when the stream breaks with UNAVAILABLE
 * it goes on with Resume on another router after the last event that it has. It checks that sequences
 * have no gap and come once.
 */
export class FaultCall {
  readonly seen: SeenEvent[] = [];
  /** Rejects with the call's ServiceError, or with what is wrong with the events. */
  readonly answer: Promise<FaultAnswer>;
  resumes = 0;
  #cancel: () => void = () => undefined;
  #left = false;
  #finishUpload: () => void = () => undefined;

  constructor(
    private readonly routers: () => readonly RouterServiceClient[],
    header: GenerateHeader,
    ids: readonly number[],
    private readonly options: CallOptions = {},
  ) {
    this.answer = this.#run(header, ids);
    this.answer.catch(() => undefined); // a test may look at it much later
  }

  get events(): readonly GenerateResponse__Output[] {
    return this.seen.map(({ event }) => event);
  }

  /** @throws Error before the first event */
  get sessionId(): string {
    const [first] = this.seen;
    if (first === undefined) throw new Error('the session has no event yet');
    return first.event.sessionId;
  }

  /** Waits for an event, those that came before among them; rejects if the call ends without one. */
  async sees(wanted: (event: GenerateResponse__Output) => boolean): Promise<SeenEvent> {
    let ended = false;
    const onEnd = (): void => {
      ended = true;
    };
    this.answer.then(onEnd, onEnd);
    const find = (): SeenEvent | undefined => this.seen.find(({ event }) => wanted(event));
    await poll(find, (found) => found !== undefined || ended, PATIENCE_MS, 1);
    const found = find();
    if (found !== undefined) return found;
    await this.answer;
    throw new Error(`the call ended without the event; it saw ${JSON.stringify(this.events)}`);
  }

  /** Prefill has passed a position, or is done. */
  async passes(token: number): Promise<SeenEvent> {
    return this.sees(({ progress }) => Number(progress?.processedTokens) >= token);
  }

  /** So many tokens of the answer have come. */
  async says(tokens: number): Promise<SeenEvent> {
    return this.sees(({ token }) => (token?.index ?? -1) >= tokens - 1);
  }

  /** What the call failed with. @throws Error if it ended well */
  async failure(): Promise<ServiceError> {
    try {
      await this.answer;
    } catch (error) {
      if (isServiceError(error)) return error;
      throw error;
    }
    throw new Error('the call ended well');
  }

  /** Leaves as a client that is gone: the stream is reset and nobody comes back. */
  leave(): void {
    this.#left = true;
    this.#cancel();
  }

  closeUpload(): void {
    this.#finishUpload();
  }

  /** From a fault to the first event that shows the session moving again; see docs/reliability.md. */
  async recoveryMs(faultAtMs: number): Promise<number> {
    await this.answer;
    const interrupted = this.seen.findLast(({ event }) => (event.interrupted ?? null) !== null);
    const sinceMs = Math.max(faultAtMs + IN_FLIGHT_MS, interrupted?.atMs ?? 0);
    const moved = this.seen.find(
      ({ event, atMs }) =>
        atMs > sinceMs && (event.progress ?? event.token ?? event.finished ?? null) !== null,
    );
    if (moved === undefined) throw new Error('the session was over before the fault');
    return moved.atMs - faultAtMs;
  }

  async #run(header: GenerateHeader, ids: readonly number[]): Promise<FaultAnswer> {
    const first = this.options.router ?? 0;
    const giveUpAtMs = performance.now() + PATIENCE_MS;
    let stream = this.#generate(first, header, ids);
    for (let router = first; ;) {
      const failure = await stream;
      if (failure === null) return toAnswer(this.seen);
      const hasEnded =
        (this.seen.at(-1)?.event.error ?? null) !== null || GONE.test(failure.details);
      const mayResume = this.options.resumes !== false && !this.#left && !hasEnded;
      const isSafe = failure.code === grpcStatus.UNAVAILABLE && this.seen.length > 0;
      if (!mayResume || !isSafe || performance.now() > giveUpAtMs) throw failure;
      router += 1;
      await sleep(RESUME_PAUSE_MS);
      stream = this.#resume(router);
    }
  }

  #generate(
    router: number,
    header: GenerateHeader,
    ids: readonly number[],
  ): Promise<ServiceError | null> {
    const call = this.#router(router).generate();
    const done = this.#read(call);
    call.write({ header: { model: MODEL, ...header } });
    for (const part of idParts(ids)) call.write({ part });
    this.#finishUpload = () => {
      call.end();
    };
    if (this.options.closes !== false) call.end();
    return done;
  }

  #resume(router: number): Promise<ServiceError | null> {
    this.resumes += 1;
    const { sessionId, sequence } = this.seen.at(-1)?.event ?? { sessionId: '', sequence: '0' };
    return this.#read(this.#router(router).resume({ sessionId, afterSequence: sequence }));
  }

  #router(index: number): RouterServiceClient {
    const routers = this.routers();
    const router = routers[index % routers.length];
    if (router === undefined) throw new Error('the cluster has no router');
    return router;
  }

  /** Settles with how the stream ended; null: well. Rejects for an event out of order. */
  #read(call: EventStream): Promise<ServiceError | null> {
    this.#cancel = () => {
      call.cancel();
    };
    return new Promise((resolve, reject) => {
      call.on('data', (event) => {
        const last = this.seen.at(-1)?.event;
        if (last !== undefined && Number(event.sequence) !== Number(last.sequence) + 1) {
          reject(new Error(`event ${event.sequence} came after event ${last.sequence}`));
          call.cancel();
          return;
        }
        this.seen.push({ event, atMs: performance.now() });
      });
      // The status may be known before the last events are read.
      let failure: ServiceError | null = null;
      let [isRead, isDone] = [false, false];
      const settle = (): void => {
        if (isRead && isDone) resolve(failure);
      };
      call.on('error', (error) => {
        failure = error;
      });
      call.on('status', () => {
        isDone = true;
        settle();
      });
      call.on('end', () => {
        isRead = true;
        settle();
      });
    });
  }
}

/** Events that were on their way when the fault came are no sign of recovery. */
const IN_FLIGHT_MS = 20;

interface EventStream {
  on(event: 'data', listener: (event: GenerateResponse__Output) => void): unknown;
  on(event: 'error', listener: (error: ServiceError) => void): unknown;
  on(event: 'end' | 'status', listener: () => void): unknown;
  cancel(): void;
}

function toAnswer(seen: readonly SeenEvent[]): FaultAnswer {
  const events = seen.map(({ event }) => event);
  const finished = events.at(-1)?.finished;
  if (!finished) throw new Error(`the last event is ${JSON.stringify(events.at(-1))}`);
  const tokens = events.flatMap(({ token }) => (token ? [token] : []));
  for (const [place, { index }] of tokens.entries()) {
    assert.equal(index, place, `token ${index} came in place ${place}`);
  }
  return {
    sessionId: events[0]?.sessionId ?? '',
    tokens,
    ids: tokens.map(({ tokenId }) => tokenId),
    text: tokens.map(({ text }) => text).join('') + finished.text,
    promptLogprobs: onePerPosition(
      events.flatMap(({ progress }) => progress?.promptLogprobs ?? []),
    ),
    finished,
    interruptions: events.flatMap(({ interrupted }) => (interrupted ? [interrupted.code] : [])),
  };
}

/** A chunk that ran again tells its log-probabilities again: they must be the same. */
function onePerPosition(all: readonly PromptLogprob__Output[]): PromptLogprob__Output[] {
  const byPosition = new Map<string, PromptLogprob__Output>();
  for (const logprob of all) {
    const earlier = byPosition.get(logprob.position);
    if (earlier !== undefined) assert.deepEqual(logprob, earlier);
    byPosition.set(logprob.position, logprob);
  }
  return [...byPosition.values()].sort((a, b) => Number(a.position) - Number(b.position));
}

/** The same tokens with the same log-probabilities, to the bit. */
export function assertSameAnswer(actual: FaultAnswer, expected: FaultAnswer): void {
  for (const [place, token] of expected.tokens.entries()) {
    assert.deepEqual(actual.tokens[place], token, `token ${place} of ${expected.tokens.length}`);
  }
  assert.equal(actual.tokens.length, expected.tokens.length);
  assert.equal(actual.text, expected.text);
  assert.equal(actual.finished.finishReason, expected.finished.finishReason);
  assert.deepEqual(actual.promptLogprobs, expected.promptLogprobs);
}

export function isServiceError(error: unknown): error is ServiceError {
  return error instanceof Error && 'code' in error && 'details' in error;
}
