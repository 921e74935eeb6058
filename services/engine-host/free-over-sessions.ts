import { ServingError } from '../domain/serving-error.js';
import { ENDED_STATES, type SessionRecord } from '../domain/session-record.js';
import type { SessionRecords } from '../domain/session-store.js';

/** Rare: it is for what nothing else tells. */
const CHECK_MS = 5_000;

export interface OverSessionsOptions<Held extends { readonly sessionId: string }> {
  /** What this process holds: the same objects at each call, as long as it holds them. */
  readonly held: () => readonly Held[];
  /** Whether the session, which lives, has gone on without what is held here. */
  readonly isSuperseded: (held: Held, record: SessionRecord) => boolean;
  /** Frees exactly this, and nothing newer of the same session. */
  readonly free: (held: Held) => Promise<unknown>;
  readonly records: Pick<SessionRecords, 'load'>;
  readonly onError: (error: unknown) => void;
}

/**
 * Frees sessions that are over without this process having been told: it stood still while their
 * driver went on elsewhere, or Redis lost them. What runs hears it from what it reports; this is for
 * the others.
 */
export class OverSessions<Held extends { readonly sessionId: string }> {
  #suspects: ReadonlySet<Held> = new Set();

  constructor(private readonly options: OverSessionsOptions<Held>) {}

  /**
   * Frees what is over now and was at the last call: between two calls a new plan of a session has
   * linked the segments that it wants of this one.
   */
  async check(): Promise<void> {
    const suspects = new Set<Held>();
    for (const held of this.options.held()) {
      if (!(await this.#isOver(held))) continue;
      if (this.#suspects.has(held)) await this.#free(held);
      else suspects.add(held);
    }
    this.#suspects = suspects;
  }

  async #isOver(held: Held): Promise<boolean> {
    try {
      const record = await this.options.records.load(held.sessionId);
      if (record === null || ENDED_STATES.has(record.state)) return true;
      return this.options.isSuperseded(held, record);
    } catch (error) {
      if (!(error instanceof ServingError)) throw error;
      // Redis is away, or the record cannot be read: any doubt keeps the session.
      if (error.code !== 'REDIS_UNAVAILABLE') this.options.onError(error);
      return false;
    }
  }

  async #free(held: Held): Promise<void> {
    try {
      await this.options.free(held);
    } catch (error) {
      this.options.onError(error);
    }
  }
}

/** Checks every five seconds; while Redis keeps one check waiting, no other begins. */
export function watchOverSessions<Held extends { readonly sessionId: string }>(
  options: OverSessionsOptions<Held>,
): { stop(): void } {
  const over = new OverSessions(options);
  let isChecking = false;
  const check = (): void => {
    if (isChecking) return;
    isChecking = true;
    over
      .check()
      .catch(options.onError)
      .finally(() => {
        isChecking = false;
      });
  };
  const timer = setInterval(check, CHECK_MS).unref();
  return {
    stop: () => {
      clearInterval(timer);
    },
  };
}
