import { type ErrorCode, ServingError } from '../../../../services/domain/serving-error.js';
import type { SessionEvent } from '../../../../services/domain/session-event.js';
import type { SessionStore } from '../../../../services/domain/session-store.js';
import type {
  AppendTurnCall,
  DecodePeers,
  MemberCounters,
  StartSessionCall,
} from '../../../../services/router/drive/peers.js';
import { NO_COUNTERS } from './fake-members.js';

type TurnCall = StartSessionCall | AppendTurnCall;

/** A session that a decode holds, and the turn that it answered last. */
interface HeldSession {
  call: TurnCall;
}

/**
 * A decode's outside: it appends `answer` to the session's stream, from where an earlier attempt has
 * left it, unless `gate` holds it. Its events carry epoch, attempt and turn; it stops where one is
 * refused.
 */
export class FakeDecode implements DecodePeers {
  readonly starts: StartSessionCall[] = [];
  readonly turns: AppendTurnCall[] = [];
  readonly releases: string[] = [];
  answer: readonly number[] = [10, 11, 3];
  /** Awaited before every token. */
  gate: (index: number) => Promise<void> = async () => Promise.resolve();
  /** Awaited before StartSession answers; a rejection refuses it. */
  startGate: (signal: AbortSignal, call: StartSessionCall) => Promise<void> = async () =>
    Promise.resolve();
  readonly #held = new Map<string, HeldSession>();
  #killed = false;

  constructor(
    private readonly store: SessionStore,
    readonly decodeId = 'decode-1',
  ) {}

  async startSession(_address: string, call: StartSessionCall, signal: AbortSignal): Promise<void> {
    this.#refuseIfKilled();
    this.starts.push(call);
    await this.startGate(signal, call);
    const held = this.#held.get(call.sessionId);
    if (held?.call.epoch === call.epoch && held.call.attempt === call.attempt) return;
    this.#take({ call }, call.answeredTokens);
  }

  async appendTurn(_address: string, call: AppendTurnCall): Promise<number> {
    this.#refuseIfKilled();
    this.turns.push(call);
    const held = this.#held.get(call.sessionId);
    if (held === undefined) throw new ServingError('SESSION_NOT_FOUND', 'not held here');
    if (held.call.epoch !== call.epoch || held.call.attempt !== call.attempt) {
      throw new ServingError('STALE_EPOCH', 'another attempt is held here');
    }
    if (held.call.turn !== call.turn) this.#take({ call }, 0);
    return Promise.resolve(call.context.cachedTokens);
  }

  async releaseSession(_address: string, sessionId: string): Promise<void> {
    this.#refuseIfKilled();
    this.releases.push(sessionId);
    this.#held.delete(sessionId);
    return Promise.resolve();
  }

  async getStatus(): Promise<MemberCounters> {
    this.#refuseIfKilled();
    return Promise.resolve(NO_COUNTERS);
  }

  holds(sessionId: string): boolean {
    return this.#held.has(sessionId);
  }

  /** Gives a session's turn back, as a decode that must stop does. */
  async handBack(sessionId: string, code: ErrorCode = 'SHUTTING_DOWN'): Promise<void> {
    const held = this.#held.get(sessionId);
    if (held === undefined) throw new Error('the decode does not hold the session');
    this.#held.delete(sessionId);
    await this.#append(held.call, { type: 'interrupted', code, message: 'given back' });
  }

  /** From now on it appends nothing and answers no call. */
  kill(): void {
    this.#killed = true;
    this.#held.clear();
  }

  #take(session: HeldSession, firstIndex: number): void {
    this.#held.set(session.call.sessionId, session);
    this.#answer(session, firstIndex).catch(() => undefined);
  }

  async #answer(session: HeldSession, firstIndex: number): Promise<void> {
    const { call } = session;
    const holds = (): boolean => this.#held.get(call.sessionId) === session;
    for (const [index, tokenId] of this.answer.entries()) {
      if (index < firstIndex) continue;
      await this.gate(index);
      if (!holds()) return;
      const text = `t${String(tokenId)} `;
      const token = { type: 'token', index, tokenId, text, logprob: -1, rank: 1 } as const;
      if (!(await this.#append(call, token))) return;
    }
    await this.gate(this.answer.length);
    if (!holds()) return;
    await this.#finish(call);
  }

  async #finish(call: TurnCall): Promise<void> {
    const { policy, promptTokens, cachedTokens, keepSessionMs } = call.context;
    const { workerIds, segmentBytes, promptReran, sparseWork } = call.context;
    if (keepSessionMs === 0) this.#held.delete(call.sessionId);
    await this.#append(call, {
      type: 'finished',
      finishReason: 'stop',
      text: '',
      keptUntilUnixMs: keepSessionMs === 0 ? null : Date.now() + keepSessionMs,
      report: {
        ...{ policy, promptTokens, cachedTokens, workerIds, segmentBytes, promptReran, sparseWork },
        completionTokens: this.answer.length,
        timeToFirstTokenMs: 1,
        prefillMs: 1,
        decodeMs: 1,
        privateBytes: 0,
        decodeId: this.decodeId,
      },
    });
  }

  /** @returns whether the stream took it; a session whose stream does not is held no longer */
  async #append({ sessionId, epoch, attempt, turn }: TurnCall, event: SessionEvent) {
    const taken = await this.store.events.append(sessionId, epoch, event, { attempt, turn });
    if (typeof taken !== 'number') this.#held.delete(sessionId);
    return typeof taken === 'number';
  }

  #refuseIfKilled(): void {
    if (this.#killed) throw new ServingError('DECODE_LOST', 'connection refused');
  }
}
