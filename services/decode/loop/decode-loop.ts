import type { DecodeItem, DecodeItemResult } from '../../../native/ts/index.js';
import type { ErrorCode } from '../../domain/serving-error.js';
import type {
  ErrorEvent,
  InterruptedEvent,
  PromptLogprob,
  SessionEvent,
  TurnReport,
} from '../../domain/session-event.js';
import { acceptToken, type AnswerEnd, type EndRules } from './accept-token.js';
import type { BatchSession } from './batch-session.js';
import type { DecodeEngine } from './decode-engine.js';
import type { EventPublisher } from './event-publisher.js';
import { planStep, type StepPlan } from './plan-step.js';
import { privateKvBytes } from './private-memory.js';
import type { RunningTurn } from './turn.js';
import { failureEvent, noMemoryLeft, tooLargeForMemory } from './turn-failure.js';
import { turnReport } from './turn-report.js';

export interface DecodeLoopOptions {
  readonly engine: DecodeEngine;
  readonly publisher: EventPublisher;
  readonly decodeId: string;
  readonly endRules: EndRules;
  readonly kvBytesPerToken: number;
  readonly maxPrivateBytes: number;
  readonly nowUnixMs: () => number;
  /** The service's code for what the engine reports about one session. */
  readonly toErrorCode: (error: NonNullable<DecodeItemResult['error']>) => ErrorCode;
  /** The turn ended well and the session stays, idle, until the given time. */
  readonly onKept: (session: BatchSession, keptUntilUnixMs: number) => void;
  /** The session left the loop and its memory is free. */
  readonly onClosed: (session: BatchSession) => void;
  /** A step ended; for metrics. */
  readonly onStep: (step: { sessions: number; tokens: number; seconds: number }) => void;
  /** A turn ended well; for metrics. */
  readonly onFinished: (report: TurnReport) => void;
  /** A token came so long after the one before it; for metrics. */
  readonly onTokenGap: (seconds: number) => void;
  /** A turn ended with an error here; for metrics. */
  readonly onFailed: (code: ErrorCode) => void;
  /** A turn was given back, to be run again; for metrics. */
  readonly onHandedBack: (code: ErrorCode) => void;
  /** A step failed as a whole; its sessions are given back. */
  readonly onStepFailed: (error: unknown) => void;
}

/**
 * Continuous batching: one native call a step for all sessions that have something to run.
 * Sessions join and leave between steps.
 */
export class DecodeLoop {
  /** Steps run: equal to the engine's own count of decode calls. */
  steps = 0;
  readonly #sessions = new Set<BatchSession>();
  /** Settled once per step, so that a release waits for the step that holds its session. */
  #step: Promise<void> | null = null;
  #inStep: ReadonlySet<BatchSession> = new Set();
  #wake: () => void = () => undefined;
  #stopping = false;

  constructor(private readonly options: DecodeLoopOptions) {}

  /** Sessions with a turn that runs. */
  get activeSessions(): number {
    return [...this.#sessions].filter((session) => session.turn !== null).length;
  }

  privateBytes(session: BatchSession): number {
    const { kvBytesPerToken } = this.options;
    return privateKvBytes(session.sealedTokens, session.tokens, kvBytesPerToken);
  }

  /** Whether the private pages up to a position have room beside those of all sessions held. */
  hasRoom(session: BatchSession, endToken: number): boolean {
    const { kvBytesPerToken, maxPrivateBytes } = this.options;
    const bytesAt = ({ sealedTokens }: BatchSession, tokens: number): number =>
      privateKvBytes(sealedTokens, tokens, kvBytesPerToken);
    const others = [...this.#sessions].filter((other) => other !== session);
    const held = others.reduce((sum, other) => sum + bytesAt(other, other.endToken), 0);
    return held + bytesAt(session, endToken) <= maxPrivateBytes;
  }

  /**
   * Takes a session in, or runs the turn that was begun on one that is in.
   *
   * @param end how its answer ended, if an earlier attempt generated all of it
   */
  join(session: BatchSession, end: AnswerEnd | null = null): void {
    this.#sessions.add(session);
    if (session.turn !== null && end !== null) this.#finish(session, session.turn, end);
    this.#wake();
  }

  /**
   * Takes a session out and frees its memory: at once when no step holds it, else when the step
   * has seen the cancellation flag.
   */
  async leave(session: BatchSession): Promise<void> {
    if (!this.#sessions.has(session)) return;
    session.leaving = true;
    if (this.#inStep.has(session)) {
      this.options.engine.cancel(session.handle);
      await this.#step;
    }
    await this.#close(session);
  }

  /** Runs until stop(). */
  async run(): Promise<void> {
    while (!this.#stopping) {
      await this.options.publisher.room();
      this.#endLate();
      const plan = planStep(this.#sessions, this.options);
      this.#makeRoom(plan);
      if (plan.batch.length === 0) {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
        continue;
      }
      this.#inStep = new Set(plan.batch);
      this.#step = this.#run(plan.batch, plan.maxRows);
      await this.#step;
    }
  }

  /**
   * Gives every running turn back, at once: what a running step still chooses for them is not said.
   * Their memory goes when they leave().
   */
  handBack(code: ErrorCode, message: string): void {
    for (const session of this.#sessions) {
      if (session.turn === null || session.leaving) continue;
      session.leaving = true;
      this.options.onHandedBack(code);
      this.#publish(session, { type: 'interrupted', code, message });
    }
  }

  /** Ends the loop after the running step; every session leaves. */
  async stop(): Promise<void> {
    this.#stopping = true;
    this.#wake();
    await Promise.all([...this.#sessions].map((session) => this.leave(session)));
  }

  async #run(batch: readonly BatchSession[], maxRows: number): Promise<void> {
    const work = batch.flatMap((session) =>
      session.turn === null
        ? []
        : [{ session, turn: session.turn, item: session.nextItem(session.turn, maxRows) }],
    );
    const startedMs = performance.now();
    this.steps++;
    const results = await this.#callEngine(work.map(({ item }) => item));
    this.#inStep = new Set();
    if (results === null) {
      for (const { session } of work) {
        if (!session.leaving) this.#fail(session, 'INTERNAL', 'the decode step failed');
      }
      return;
    }
    work.forEach(({ session, turn, item }, index) => {
      const result = results[index];
      if (result !== undefined && !session.leaving) this.#apply(session, turn, item, result);
    });
    this.options.onStep({
      sessions: work.length,
      tokens: results.filter((result) => result.tokenId !== null).length,
      seconds: (performance.now() - startedMs) / 1000,
    });
  }

  async #callEngine(items: DecodeItem[]): Promise<DecodeItemResult[] | null> {
    try {
      return await this.options.engine.step(items);
    } catch (error) {
      this.options.onStepFailed(error);
      return null;
    }
  }

  #apply(
    session: BatchSession,
    turn: RunningTurn,
    item: DecodeItem,
    result: DecodeItemResult,
  ): void {
    if (result.error !== null) {
      this.#fail(session, this.options.toErrorCode(result.error), result.error.message);
      return;
    }
    const logprobs = session.advance(item, result);
    // Rows before the turn's own are run again: nobody hears of them.
    const ranPrompt = item.tokenIds.length > 0 && session.tokens > turn.beginToken;
    if (turn.completionTokens === 0 && ranPrompt) {
      this.#publishProgress(session, turn, logprobs);
    }
    if (result.tokenId === null) return;
    const chosen = { tokenId: result.tokenId, logprob: result.logprob, rank: result.rank };
    turn.firstTokenUnixMs ??= this.options.nowUnixMs();
    this.#timeToken(turn);
    const accepted = acceptToken(turn, chosen, session.tokens, this.options.endRules);
    this.#publish(session, accepted.event);
    if (accepted.end !== null) this.#finish(session, turn, accepted.end);
  }

  #timeToken(turn: RunningTurn): void {
    const nowMs = performance.now();
    if (turn.lastTokenMs !== null) this.options.onTokenGap((nowMs - turn.lastTokenMs) / 1000);
    turn.lastTokenMs = nowMs;
  }

  #publishProgress(
    session: BatchSession,
    turn: RunningTurn,
    promptLogprobs: readonly PromptLogprob[],
  ): void {
    this.#publish(session, {
      type: 'progress',
      processedTokens: session.tokens,
      totalTokens: turn.context.promptTokens,
      cachedTokens: turn.context.cachedTokens,
      etaMs: null,
      promptLogprobs,
    });
  }

  #finish(session: BatchSession, turn: RunningTurn, end: AnswerEnd): void {
    const nowUnixMs = this.options.nowUnixMs();
    const { keepSessionMs } = turn.context;
    const keptUntilUnixMs = keepSessionMs > 0 ? nowUnixMs + keepSessionMs : null;
    const report = turnReport(turn, {
      nowUnixMs,
      // All but the token chosen last have run, if not here then in the attempt that chose it.
      privateBytes: privateKvBytes(
        session.sealedTokens,
        session.endToken - 1,
        this.options.kvBytesPerToken,
      ),
      decodeId: this.options.decodeId,
    });
    const { reason: finishReason, text } = end;
    this.options.onFinished(report);
    session.turn = null;
    if (keptUntilUnixMs === null) void this.#close(session);
    else this.options.onKept(session, keptUntilUnixMs);
    this.#publish(session, { type: 'finished', finishReason, text, report, keptUntilUnixMs });
  }

  #fail(session: BatchSession, code: ErrorCode, message: string): void {
    this.#end(session, failureEvent(code, message));
  }

  /** Ends one session with an error event, or gives its turn back; the others go on. */
  #end(session: BatchSession, event: ErrorEvent | InterruptedEvent): void {
    this.options.onFailed(event.code);
    if (event.type === 'interrupted') this.options.onHandedBack(event.code);
    session.turn = null;
    void this.#close(session);
    this.#publish(session, event);
  }

  /** What another decode, or this one later, has room for is given back; the rest ends. */
  #makeRoom({ overMemory, tooLarge }: StepPlan): void {
    for (const session of overMemory) this.#end(session, noMemoryLeft());
    for (const session of tooLarge) this.#end(session, tooLargeForMemory());
  }

  #endLate(): void {
    const nowUnixMs = this.options.nowUnixMs();
    for (const session of this.#sessions) {
      const deadlineUnixMs = session.turn?.context.deadlineUnixMs ?? null;
      if (session.leaving || deadlineUnixMs === null || nowUnixMs < deadlineUnixMs) continue;
      this.#fail(session, 'DEADLINE_EXCEEDED', 'the session reached its deadline while decoding');
    }
  }

  #publish(session: BatchSession, event: SessionEvent): void {
    const { sessionId, epoch, attempt, turnNumber: turn } = session;
    this.options.publisher.push({ sessionId, epoch, attempt, turn, event });
  }

  /** Takes the session out at once; settles when its memory is free. */
  async #close(session: BatchSession): Promise<void> {
    if (!this.#sessions.delete(session)) return;
    const freed = this.options.engine.close(session.handle);
    this.options.onClosed(session);
    await freed;
  }
}
