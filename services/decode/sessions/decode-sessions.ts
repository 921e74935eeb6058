import type { DecodeSessionHandle, SessionKey } from '../../../native/ts/index.js';
import type { ResolvedPolicy } from '../../domain/policy.js';
import { ServingError } from '../../domain/serving-error.js';
import { MAX_TURN_TOKENS } from '../../domain/turn.js';
import { BatchSession } from '../loop/batch-session.js';
import type { DecodeLoop } from '../loop/decode-loop.js';
import type { TokenDecoder } from '../loop/detokenize.js';
import type { Refusal, TurnEvent } from '../loop/event-publisher.js';
import type { TurnRequest } from '../loop/turn.js';

/** How much later than promised a kept session is freed here, should nobody release it. */
const EXPIRY_SLACK_MS = 1000;
/** Longest delay that setTimeout takes: about 25 days. */
const MAX_TIMER_MS = 2 ** 31 - 1;

export interface StartSession extends TurnRequest {
  readonly sessionId: string;
  readonly epoch: number;
  readonly fingerprint: string;
  readonly workerAddress: string;
}

export interface AppendTurn extends TurnRequest {
  readonly sessionId: string;
  readonly epoch: number;
  readonly tokenIds: Uint32Array;
}

export interface DecodeSessionsOptions {
  readonly loop: Pick<DecodeLoop, 'join' | 'leave' | 'activeSessions' | 'privateBytes'>;
  readonly decoder: TokenDecoder;
  readonly maxSessions: number;
  readonly maxPositions: number;
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
  /** A session that was running was released: milliseconds until its memory was free. */
  readonly onReleased: (cancelToFreeMs: number) => void;
  readonly onError: (error: unknown) => void;
}

/** A session from StartSession until its memory is free. */
interface Entry {
  readonly epoch: number;
  readonly aborter: AbortController;
  readonly opened: Promise<BatchSession>;
  session: BatchSession | null;
  expiry: NodeJS.Timeout | null;
}

/** The sessions that this decode holds: they start, take turns, expire and are released. */
export class DecodeSessions {
  readonly #entries = new Map<string, Entry>();
  #draining = false;

  constructor(private readonly options: DecodeSessionsOptions) {}

  get count(): number {
    return this.#entries.size;
  }

  /** No session starts from now on. */
  drain(): void {
    this.#draining = true;
  }

  /**
   * Fetches the hand-off, maps the segments and joins the batch. Idempotent per (session, epoch).
   *
   * @returns sessions in the batch, this one included
   */
  async start(request: StartSession): Promise<number> {
    const held = this.#entries.get(request.sessionId);
    if (held !== undefined && held.epoch > request.epoch) throw staleEpoch(held.epoch);
    if (held?.epoch === request.epoch) {
      await held.opened;
      return this.options.loop.activeSessions;
    }
    if (this.#draining) throw new ServingError('SHUTTING_DOWN', 'this decode is shutting down');
    if (held !== undefined) {
      await this.release(request.sessionId);
      return this.start(request);
    }
    this.#refuseUnfit(request);
    const aborter = new AbortController();
    const opened = this.#open(request, aborter.signal);
    const entry: Entry = { epoch: request.epoch, aborter, opened, session: null, expiry: null };
    this.#entries.set(request.sessionId, entry);
    try {
      entry.session = await opened;
    } catch (error) {
      this.#forget(request.sessionId, entry);
      aborter.signal.throwIfAborted(); // released meanwhile: its reason says more
      throw error;
    }
    entry.session.beginTurn(request, new Uint32Array(0), this.options.decoder);
    this.options.loop.join(entry.session);
    return this.options.loop.activeSessions;
  }

  /** @returns absolute position of the turn's first token */
  append(request: AppendTurn): number {
    const entry = this.#entries.get(request.sessionId);
    const session = entry?.session ?? null;
    if (entry === undefined || session === null) {
      throw new ServingError('SESSION_NOT_FOUND', 'the session is not held by this decode');
    }
    if (entry.epoch !== request.epoch) throw staleEpoch(entry.epoch);
    if (session.turn !== null) {
      throw new ServingError('SESSION_BUSY', 'the session still decodes its last turn');
    }
    if (this.#draining) throw new ServingError('SHUTTING_DOWN', 'this decode is shutting down');
    this.#refuseUnfitTurn(request, session);
    if (entry.expiry !== null) clearTimeout(entry.expiry);
    entry.expiry = null;
    const beginToken = session.endToken;
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

  /**
   * The session's stream took no more of a turn's events. What is held ends with that: but not
   * another epoch, and after 'ended' only while that turn runs. A session that is kept, or answers a
   * later turn, has outlived the event.
   */
  async refused(
    { sessionId, epoch, turn }: Pick<TurnEvent, 'sessionId' | 'epoch' | 'turn'>,
    refusal: Refusal,
  ): Promise<void> {
    const entry = this.#entries.get(sessionId);
    if (entry?.epoch !== epoch || entry.session === null) return;
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

  async #open(request: StartSession, signal: AbortSignal): Promise<BatchSession> {
    const { sessionId, epoch, fingerprint } = request;
    const handOff = await this.options.fetchHandOff(request, signal);
    signal.throwIfAborted();
    const key: SessionKey = { sessionId, epoch, stage: 0, fingerprint };
    const handle = await this.options.openSession(key, handOff);
    try {
      signal.throwIfAborted();
      return new BatchSession(sessionId, epoch, handle, this.options.sessionTokens(handle));
    } catch (error) {
      await this.options.closeHandle(handle);
      throw error;
    }
  }

  #refuseUnfit(request: StartSession): void {
    const { maxSessions, expectedFingerprint } = this.options;
    if (this.#entries.size >= maxSessions) {
      throw new ServingError(
        'TOO_MANY_SESSIONS',
        `this decode holds its ${String(maxSessions)} sessions`,
        { quota: { subject: 'decode sessions', description: 'DECODE_MAX_SESSIONS' } },
      );
    }
    if (expectedFingerprint(request, request.context.policy) !== request.fingerprint) {
      throw new ServingError(
        'DATA_LOSS',
        "the session's fingerprint is not that of this decode's model, weights and policy",
      );
    }
    this.#refuseForeignIds(request.generation.forcedTokenIds, 'forced_tokens');
  }

  #refuseUnfitTurn({ tokenIds, generation }: AppendTurn, session: BatchSession): void {
    if (tokenIds.length === 0) throw new ServingError('EMPTY_PROMPT', 'the turn has no tokens');
    if (tokenIds.length > MAX_TURN_TOKENS) {
      throw new ServingError(
        'PROMPT_TOO_LONG',
        `decode appends turns of at most ${String(MAX_TURN_TOKENS)} tokens`,
      );
    }
    if (session.endToken + tokenIds.length > this.options.maxPositions) {
      throw new ServingError(
        'PROMPT_TOO_LONG',
        `the model has ${String(this.options.maxPositions)} positions; the session holds ` +
          `${String(session.endToken)} and the turn has ${String(tokenIds.length)}`,
      );
    }
    this.#refuseForeignIds(tokenIds, 'token_ids');
    this.#refuseForeignIds(generation.forcedTokenIds, 'forced_tokens');
  }

  #refuseForeignIds(ids: ArrayLike<number>, field: string): void {
    for (let index = 0; index < ids.length; index++) {
      if ((ids[index] ?? 0) < this.options.vocabSize) continue;
      throw new ServingError(
        'TOKEN_ID_OUT_OF_RANGE',
        `${field}[${String(index)}] is ${String(ids[index])}; the vocabulary has ` +
          `${String(this.options.vocabSize)} ids`,
      );
    }
  }

  #forget(sessionId: string, entry: Entry): void {
    if (entry.expiry !== null) clearTimeout(entry.expiry);
    if (this.#entries.get(sessionId) === entry) this.#entries.delete(sessionId);
  }
}

function staleEpoch(epoch: number): ServingError {
  return new ServingError('STALE_EPOCH', `the session is at epoch ${String(epoch)} here`);
}

function released(): ServingError {
  return new ServingError('CANCELLED', 'the session was released');
}
