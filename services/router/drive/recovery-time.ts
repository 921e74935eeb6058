import { setTimeout as delay } from 'node:timers/promises';
import type { ServingError } from '../../domain/serving-error.js';
import type { DrivenSession } from './driven-session.js';
import { unlessAborted } from './redis-gap.js';

const PAUSE_MS = 500;

/**
 * How long a session that lost a process waits for another one: its deadline, which ends it by itself,
 * or else the router's limit.
 */
export class RecoveryTime {
  readonly #giveUpUnixMs: number;

  constructor(private readonly session: DrivenSession) {
    const { deps, record } = session;
    this.#giveUpUnixMs =
      record.deadlineUnixMs === null ? deps.nowUnixMs() + deps.recoveryMs : Infinity;
  }

  /** @throws `failure` when the time is over, or the session's signal's reason */
  async pause(failure: ServingError): Promise<void> {
    if (this.session.deps.nowUnixMs() >= this.#giveUpUnixMs) throw failure;
    await unlessAborted(this.session.signal, async () => delay(PAUSE_MS));
  }
}
