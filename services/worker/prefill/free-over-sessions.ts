import { ServingError } from '../../domain/serving-error.js';
import { ENDED_STATES } from '../../domain/session-record.js';
import type { SessionRecords } from '../../domain/session-store.js';
import type { PrefillSession } from './prefill-session.js';
import type { PrefillSessions } from './prefill-sessions.js';

/** Rare: it is for what nothing else tells. */
const CHECK_MS = 5_000;

export interface OverSessionsOptions {
  readonly sessions: PrefillSessions;
  readonly records: Pick<SessionRecords, 'load'>;
  readonly onError: (error: unknown) => void;
}

/**
 * Frees sessions that are over without this worker having been told: it stood still while their
 * driver went on elsewhere, or Redis lost them. A chunk that runs hears it from its progress; this
 * is for the others.
 */
export class OverSessions {
  #suspects: ReadonlySet<PrefillSession> = new Set();

  constructor(private readonly options: OverSessionsOptions) {}

  /**
   * Frees what is over now and was at the last call: between two calls a new plan of a session has
   * linked the segments that it wants of this one.
   */
  async check(): Promise<void> {
    const suspects = new Set<PrefillSession>();
    for (const session of this.options.sessions.all()) {
      if (!(await this.#isOver(session))) continue;
      if (this.#suspects.has(session)) await this.#free(session);
      else suspects.add(session);
    }
    this.#suspects = suspects;
  }

  async #isOver({ sessionId, epoch }: PrefillSession): Promise<boolean> {
    try {
      const record = await this.options.records.load(sessionId);
      return record === null || ENDED_STATES.has(record.state) || record.epoch > epoch;
    } catch (error) {
      if (!(error instanceof ServingError)) throw error;
      // Redis is away, or the record cannot be read: any doubt keeps the session.
      if (error.code !== 'REDIS_UNAVAILABLE') this.options.onError(error);
      return false;
    }
  }

  async #free({ sessionId, epoch }: PrefillSession): Promise<void> {
    try {
      await this.options.sessions.release(sessionId, epoch);
    } catch (error) {
      this.options.onError(error);
    }
  }
}

/** Checks every five seconds; while Redis keeps one check waiting, no other begins. */
export function watchOverSessions(options: OverSessionsOptions): { stop(): void } {
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
