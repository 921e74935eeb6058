import type { SessionKey, SparsePolicy } from '../../../native/ts/index.js';
import { ServingError } from '../../domain/serving-error.js';
import { type Interruption, PrefillSession } from './prefill-session.js';
import type { PrefillEngine } from './prefill-engine.js';

/** How long a release is remembered: longer than any job of its epoch waits on a queue. */
const REMEMBER_RELEASE_MS = 600_000;

export interface PrefillSessionsOptions {
  readonly engine: PrefillEngine;
  /** Unlinks files of a session up to an epoch; returns their bytes. */
  readonly removeFiles: (sessionId: string, throughEpoch: number) => Promise<number>;
  readonly nowMs: () => number;
  /** Native work was interrupted: milliseconds until its memory was free. */
  readonly onCancelled: (cancelToFreeMs: number) => void;
}

/** The sessions that are open in this process, and the epochs that are over. */
export class PrefillSessions {
  readonly #open = new Map<string, PrefillSession>();
  readonly #released = new Map<string, { readonly epoch: number; readonly atMs: number }>();

  #closing = false;

  constructor(private readonly options: PrefillSessionsOptions) {}

  /** True once closeAll() was called. */
  get closing(): boolean {
    return this.#closing;
  }

  get count(): number {
    return this.#open.size;
  }

  all(): PrefillSession[] {
    return [...this.#open.values()];
  }

  find(sessionId: string): PrefillSession | null {
    return this.#open.get(sessionId) ?? null;
  }

  /** @throws ServingError STALE_EPOCH if the epoch was released here, or a later one is open */
  refuseStale(sessionId: string, epoch: number): void {
    const releasedEpoch = this.#released.get(sessionId)?.epoch ?? 0;
    const openEpoch = this.#open.get(sessionId)?.epoch ?? 0;
    if (epoch > releasedEpoch && epoch >= openEpoch) return;
    throw new ServingError(
      'STALE_EPOCH',
      `epoch ${String(epoch)} of the session is over here: ` +
        (epoch <= releasedEpoch
          ? `${String(releasedEpoch)} was released`
          : `${String(openEpoch)} is open`),
    );
  }

  /**
   * The open session of a key; adopts the finished segments that are on disk. An older epoch of
   * the same session is released first, and files of older ones go, which a worker of the same
   * store may have left when it died.
   *
   * @throws ServingError STALE_EPOCH, SHUTTING_DOWN, and what the engine throws
   */
  async open(key: SessionKey, sparse: SparsePolicy | null): Promise<PrefillSession> {
    let swept = key.epoch === 1;
    for (;;) {
      this.#refuseClosing();
      this.refuseStale(key.sessionId, key.epoch);
      const held = this.#open.get(key.sessionId);
      if (held?.epoch === key.epoch) return held;
      if (held === undefined && swept) break;
      if (held !== undefined) await this.release(key.sessionId, held.epoch);
      else await this.options.removeFiles(key.sessionId, key.epoch - 1);
      swept ||= (held?.epoch ?? key.epoch - 1) === key.epoch - 1;
    }
    const handle = this.options.engine.open(key, sparse);
    const session = new PrefillSession(key.sessionId, key.epoch, handle);
    this.#open.set(key.sessionId, session);
    return session;
  }

  /** Raises the cancellation flag: running and later native work of the session ends. */
  interrupt(session: PrefillSession, why: Interruption): void {
    session.interruption ??= why;
    this.options.engine.cancel(session.handle);
  }

  /**
   * Cancels what runs, unmaps, unlinks, and refuses the epoch from now on. Settles when the memory
   * is free. A later epoch that is open here stays.
   *
   * @returns bytes of the files that are gone
   */
  async release(sessionId: string, epoch: number): Promise<number> {
    this.#remember(sessionId, epoch);
    const session = this.#open.get(sessionId);
    const startedMs = this.options.nowMs();
    const interrupted = session !== undefined && session.epoch <= epoch && session.busy;
    if (session !== undefined && session.epoch <= epoch) {
      if (interrupted) this.interrupt(session, 'CANCELLED');
      await this.#close(session);
    }
    const freedBytes = await this.options.removeFiles(sessionId, epoch);
    if (interrupted) this.options.onCancelled(this.options.nowMs() - startedMs);
    return freedBytes;
  }

  /** Interrupts all that runs and unmaps everything for good; files stay for the next start. */
  async closeAll(): Promise<void> {
    this.#closing = true;
    const sessions = this.all();
    for (const session of sessions) {
      if (session.busy) this.interrupt(session, 'SHUTTING_DOWN');
    }
    await Promise.all(sessions.map((session) => this.#close(session)));
  }

  #refuseClosing(): void {
    if (this.#closing) throw new ServingError('SHUTTING_DOWN', 'the worker is shutting down');
  }

  async #close(session: PrefillSession): Promise<void> {
    await session.idle();
    if (this.#open.get(session.sessionId) !== session) return;
    this.#open.delete(session.sessionId);
    await this.options.engine.close(session.handle);
  }

  #remember(sessionId: string, epoch: number): void {
    const nowMs = this.options.nowMs();
    for (const [id, { atMs }] of this.#released) {
      // Insertion order is time order: re-inserted below.
      if (nowMs - atMs < REMEMBER_RELEASE_MS) break;
      this.#released.delete(id);
    }
    const before = this.#released.get(sessionId)?.epoch ?? 0;
    this.#released.delete(sessionId);
    this.#released.set(sessionId, { epoch: Math.max(before, epoch), atMs: nowMs });
  }
}
