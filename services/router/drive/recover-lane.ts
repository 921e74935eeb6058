import type { FleetMember } from '../../domain/fleet.js';
import { type ErrorCode, ServingError } from '../../domain/serving-error.js';
import { ToldDataLoss } from './decode-turn.js';
import type { DrivenSession } from './driven-session.js';
import { processOf } from './fleet-view.js';
import { findLane, newPlan } from './new-plan.js';
import { withdrawDamaged } from './publish-prefix.js';
import { RecoveryTime } from './recovery-time.js';

/** What another plan can cure. */
const CURABLE: ReadonlySet<ErrorCode> = new Set(['WORKER_LOST', 'SHUTTING_DOWN', 'DATA_LOSS']);
/** Bytes that do not match end the session at this count. */
const MAX_DATA_LOSSES = 2;

/** A worker that died looks alive for so long: its heartbeat lives 6 s. */
const LOOKS_ALIVE_MS = 8_000;

/** How a session's turn gets on after it lost its lane, as often as that happens. */
export class LaneRecovery {
  /** Runs since the first of the losses between which the session has got nowhere. */
  #time: RecoveryTime | null = null;
  /** Where the present plan began to run chunks. */
  #plannedFrom = 0;
  /** When processes were lost, Unix milliseconds. */
  readonly #lost = new Map<string, number>();

  constructor(private readonly session: DrivenSession) {}

  /**
   * Makes good what the session lost: waits for a lane, its own worker's return included, and moves
   * it there under a new epoch.
   *
   * @throws ServingError `error` if no plan can cure it, or no lane came in time; DATA_LOSS at the
   *   second corruption
   */
  async recover(error: unknown): Promise<void> {
    const { session } = this;
    const { deps, worker } = session;
    if (!(error instanceof ServingError) || session.signal.aborted) throw error;
    if (!CURABLE.has(error.code)) throw error;
    const corrupt = error.code === 'DATA_LOSS';
    if (corrupt) await this.#countLoss(error);
    if (error.code === 'WORKER_LOST' && worker !== null) {
      this.#lost.set(processOf(worker), deps.nowUnixMs());
    }
    if (!(error instanceof ToldDataLoss)) await session.tellInterrupted(error.code, error.message);
    const time = await this.#recoveryTime(error);
    for (;;) {
      const found = await findLane(session, session.record.reservation, (member) =>
        this.#isLost(member),
      );
      if (found !== null) {
        await newPlan(session, found, corrupt ? 0 : session.record.nextToken);
        this.#plannedFrom = session.record.nextToken;
        deps.metrics.replanned(error.code);
        return;
      }
      await time.pause(error);
    }
  }

  async #countLoss(error: ServingError): Promise<void> {
    const { session } = this;
    const dataLosses = session.record.dataLosses + 1;
    session.deps.metrics.corruption('session');
    await withdrawDamaged(session);
    await session.change({ dataLosses });
    if (dataLosses >= MAX_DATA_LOSSES) throw error;
  }

  /** A plan that fails where it began is not followed by the next one at once. */
  async #recoveryTime(error: ServingError): Promise<RecoveryTime> {
    const { state, nextToken } = this.session.record;
    const gotOn = state === 'decoding' || nextToken > this.#plannedFrom;
    const time = gotOn || this.#time === null ? new RecoveryTime(this.session) : this.#time;
    if (time === this.#time) await time.pause(error);
    this.#time = time;
    return time;
  }

  #isLost(member: FleetMember): boolean {
    const lostUnixMs = this.#lost.get(processOf(member)) ?? -Infinity;
    return this.session.deps.nowUnixMs() - lostUnixMs < LOOKS_ALIVE_MS;
  }
}
