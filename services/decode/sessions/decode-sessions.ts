import type { DecodeSessionHandle, SessionKey } from '../../../native/ts/index.js';
import type { ResolvedPolicy } from '../../domain/policy.js';
import { ServingError } from '../../domain/serving-error.js';
import type { AnswerEnd, EndRules } from '../loop/accept-token.js';
import { BatchSession } from '../loop/batch-session.js';
import type { DecodeLoop } from '../loop/decode-loop.js';
import type { TokenDecoder } from '../loop/detokenize.js';
import type { Refusal, TurnEvent } from '../loop/event-publisher.js';
import {
  noPrivateMemory,
  refuseWrongHistory,
  refuseWrongStart,
  refuseWrongTurn,
  type SessionLimits,
  tooManySessions,
} from './refusals.js';
import {
  type AppendTurn,
  compareFences,
  type SessionFence,
  type StartSession,
} from './requests.js';

/** How much later than promised a kept session is freed here, should nobody release it. */
const EXPIRY_SLACK_MS = 1000;
/** Longest delay that setTimeout takes: about 25 days. */
const MAX_TIMER_MS = 2 ** 31 - 1;

export interface DecodeSessionsOptions {
  readonly loop: Pick<DecodeLoop, 'join' | 'leave' | 'activeSessions' | 'privateBytes' | 'hasRoom'>;
  readonly decoder: TokenDecoder;
  readonly maxSessions: number;
  readonly endRules: EndRules;
  readonly vocabSize: number;
  /** What the session's bytes must carry, computed here from the engine that is loaded. */
  readonly expectedFingerprint: (
    session: { sessionId: string; epoch: number },
    policy: ResolvedPolicy,
  ) => string;
  readonly fetchHandOff: (session: StartSession, signal: AbortSignal) => Promise<Uint8Array>;
  readonly openSession: (key: SessionKey, handOff: Uint8Array) => Promise<DecodeSessionHandle>;
  readonly sessionTokens: (handle: DecodeSessionHandle) => number;
  readonly closeHandle: (handle: DecodeSessionHandle) => Promise<void>;
  readonly nowUnixMs: () => number;
  /** A session joined with so many tokens that are run again. */
  readonly onReplayed: (tokens: number) => void;
  /** A session that was running was released: milliseconds until its memory was free. */
  readonly onReleased: (cancelToFreeMs: number) => void;
  readonly onError: (error: unknown) => void;
}

/** A session from StartSession until its memory is free. */
interface Entry extends SessionFence {
  readonly aborter: AbortController;
  readonly opened: Promise<OpenedSession>;
  session: BatchSession | null;
  expiry: NodeJS.Timeout | null;
}

interface OpenedSession {
  readonly session: BatchSession;
  /** How its turn ended, if its history says so. */
  readonly end: AnswerEnd | null;
}

/** The sessions that this decode holds: they start, take turns, expire and are released. */
export class DecodeSessions {
  readonly #entries = new Map<string, Entry>();
  #draining = false;

  constructor(private readonly options: DecodeSessionsOptions) {}

  get count(): number {
    return this.#entries.size;
  }

  /** What is held, in whatever phase: the same objects at each call. */
  all(): SessionFence[] {
    return [...this.#entries.values()];
  }

  /** No session starts from now on. */
  drain(): void {
    this.#draining = true;
  }

  /**
   * Fetches the hand-off, maps the segments and joins the batch, where the history ends. Idempotent
   * per (session, epoch, attempt); a newer one takes the place of what is held.
   *
   * @returns sessions in the batch, this one included
   */
  async start(request: StartSession): Promise<number> {
    const { sessionId, epoch, attempt } = request;
    const held = this.#entries.get(sessionId);
    const order = held === undefined ? 1 : compareFences(request, held);
    if (held !== undefined && order < 0) throw staleEpoch(held);
    if (held !== undefined && order === 0) {
      await held.opened;
      return this.options.loop.activeSessions;
    }
    if (this.#draining) throw new ServingError('SHUTTING_DOWN', 'this decode is shutting down');
    if (held !== undefined) {
      await this.release(sessionId, staleEpoch(request));
      return this.start(request);
    }
    this.#refuseUnfit(request);
    const aborter = new AbortController();
    const opened = this.#open(request, aborter.signal);
    const entry: Entry = {
      sessionId,
      epoch,
      attempt,
      aborter,
      opened,
      session: null,
      expiry: null,
    };
    this.#entries.set(sessionId, entry);
    try {
      const { session, end } = await opened;
      entry.session = session;
      if (end === null) this.options.onReplayed(request.history.tokenIds.length);
      this.options.loop.join(session, end);
    } catch (error) {
      this.#forget(sessionId, entry);
      aborter.signal.throwIfAborted(); // released meanwhile: its reason says more
      throw error;
    }
    return this.options.loop.activeSessions;
  }

  /**
   * Begins the next turn of a kept session. Idempotent: the turn that was begun last is not begun again.
   *
   * @returns absolute position of the turn's first token
   */
  append(request: AppendTurn): number {
    const entry = this.#entries.get(request.sessionId);
    const session = entry?.session ?? null;
    if (entry === undefined || session === null) {
      throw new ServingError('SESSION_NOT_FOUND', 'the session is not held by this decode');
    }
    if (compareFences(request, entry) !== 0) throw staleEpoch(entry);
    if (request.turn === session.turnNumber) return session.turnBeginToken;
    if (session.turn !== null || request.turn !== session.turnNumber + 1) {
      const state = session.turn === null ? 'has ended' : 'still decodes';
      throw new ServingError(
        'SESSION_BUSY',
        `the session ${state} its turn ${String(session.turnNumber)}; turn ${String(request.turn)} ` +
          'is not next',
      );
    }
    if (this.#draining) throw new ServingError('SHUTTING_DOWN', 'this decode is shutting down');
    refuseWrongTurn(request, session, this.#limits);
    const beginToken = session.endToken;
    if (!this.options.loop.hasRoom(session, beginToken + request.tokenIds.length)) {
      throw noPrivateMemory();
    }
    if (entry.expiry !== null) clearTimeout(entry.expiry);
    entry.expiry = null;
    session.beginTurn(request, request.tokenIds, this.options.decoder);
    this.options.loop.join(session);
    return beginToken;
  }

  /**
   * Ends a session, in whatever phase, and frees its memory before it settles.
   *
   * @param why what a start under way is refused with
   * @returns private KV bytes that it held
   */
  async release(sessionId: string, why = released()): Promise<number> {
    const entry = this.#entries.get(sessionId);
    if (entry === undefined) return 0;
    const startedMs = performance.now();
    const interrupted = entry.session === null || entry.session.turn !== null;
    entry.aborter.abort(why);
    // A start under way sees the signal and closes what it opened.
    await entry.opened.catch(() => undefined);
    const freedBytes = entry.session === null ? 0 : this.options.loop.privateBytes(entry.session);
    if (entry.session !== null) await this.options.loop.leave(entry.session);
    this.#forget(sessionId, entry);
    if (interrupted) this.options.onReleased(performance.now() - startedMs);
    return freedBytes;
  }

  /** As release(), but not what has taken the place of `held` since all() told it. */
  async releaseHeld(held: SessionFence): Promise<void> {
    if (this.#entries.get(held.sessionId) === held) await this.release(held.sessionId);
  }

  /**
   * The session's stream took no more of a turn's events. What is held ends with that: but not
   * another epoch or attempt, and after 'ended' only while that turn runs. A session that is kept, or
   * answers a later turn, has outlived the event.
   */
  async refused(
    event: Pick<TurnEvent, 'sessionId' | 'epoch' | 'attempt' | 'turn'>,
    refusal: Refusal,
  ): Promise<void> {
    const { sessionId, turn } = event;
    const entry = this.#entries.get(sessionId);
    if (entry === undefined || entry.session === null || compareFences(event, entry) !== 0) return;
    const { session } = entry;
    if (refusal === 'ended' && (session.turn === null || session.turnNumber !== turn)) return;
    await this.release(sessionId);
  }

  /** Ends everything that is held, for this process ends. */
  async releaseAll(): Promise<void> {
    const why = new ServingError('SHUTTING_DOWN', 'this decode is shutting down');
    await Promise.all([...this.#entries.keys()].map((sessionId) => this.release(sessionId, why)));
  }

  /** The loop freed a session by itself: its turn ended, or failed. */
  closed(session: BatchSession): void {
    const entry = this.#entries.get(session.sessionId);
    if (entry?.session === session) this.#forget(session.sessionId, entry);
  }

  /** A safety net: the driver releases kept sessions; a driver that is gone does not. */
  kept(session: BatchSession, keptUntilUnixMs: number): void {
    const entry = this.#entries.get(session.sessionId);
    if (entry?.session !== session) return;
    const delayMs = keptUntilUnixMs - this.options.nowUnixMs() + EXPIRY_SLACK_MS;
    const expire = (): void => {
      this.release(session.sessionId).catch(this.options.onError);
    };
    entry.expiry = setTimeout(expire, Math.min(delayMs, MAX_TIMER_MS)).unref();
  }

  async #open(request: StartSession, signal: AbortSignal): Promise<OpenedSession> {
    const { sessionId, epoch, attempt, fingerprint, history } = request;
    const handOff = await this.options.fetchHandOff(request, signal);
    signal.throwIfAborted();
    // The hand-off says itself which of its segments others made.
    const key: SessionKey = { sessionId, epoch, stage: 0, fingerprint, origins: [] };
    const handle = await this.options.openSession(key, handOff);
    try {
      signal.throwIfAborted();
      const sealedTokens = this.options.sessionTokens(handle);
      refuseWrongHistory(request, sealedTokens, this.#limits);
      const session = new BatchSession(sessionId, epoch, attempt, handle, sealedTokens);
      const { decoder, endRules, loop } = this.options;
      const end = await session.resumeTurn(request, history, decoder, endRules);
      signal.throwIfAborted();
      if (end === null && !loop.hasRoom(session, session.endToken)) throw noPrivateMemory();
      return { session, end };
    } catch (error) {
      await this.options.closeHandle(handle);
      throw error;
    }
  }

  get #limits(): SessionLimits {
    const { endRules, vocabSize } = this.options;
    return { maxPositions: endRules.maxPositions, vocabSize };
  }

  #refuseUnfit(request: StartSession): void {
    const { maxSessions, expectedFingerprint } = this.options;
    if (this.#entries.size >= maxSessions) throw tooManySessions(maxSessions);
    if (expectedFingerprint(request, request.context.policy) !== request.fingerprint) {
      throw new ServingError(
        'DATA_LOSS',
        "the session's fingerprint is not that of this decode's model, weights and policy",
      );
    }
    refuseWrongStart(request, this.#limits);
  }

  #forget(sessionId: string, entry: Entry): void {
    if (entry.expiry !== null) clearTimeout(entry.expiry);
    if (this.#entries.get(sessionId) === entry) this.#entries.delete(sessionId);
  }
}

function staleEpoch({ epoch, attempt }: Pick<SessionFence, 'epoch' | 'attempt'>): ServingError {
  return new ServingError(
    'STALE_EPOCH',
    `the session is at epoch ${String(epoch)}, attempt ${String(attempt)} here`,
  );
}

function released(): ServingError {
  return new ServingError('CANCELLED', 'the session was released');
}
