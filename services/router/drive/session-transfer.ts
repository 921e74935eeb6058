import { setTimeout as delay } from 'node:timers/promises';
import { ServingError } from '../../domain/serving-error.js';
import { ENDED_STATES, type SessionRecord } from '../../domain/session-record.js';
import type { DriveDeps } from './drive-deps.js';
import type { PlacedRecord } from './session-run.js';

/** How long another router may take to let an idle session go, and how often to look. */
const YIELD_MS = 2_000;
const LOOK_MS = 20;

/** How a session changes from one router to another. */
export class SessionTransfer {
  constructor(private readonly deps: DriveDeps) {}

  /** Takes the lease of a session that nobody drives. @returns null if it has a driver, or has ended */
  async take(sessionId: string): Promise<PlacedRecord | null> {
    const { records } = this.deps.store;
    const { driverId } = this.deps;
    if ((await records.takeLease(sessionId, driverId)) !== 'held') return null;
    const record = await this.#readable(sessionId);
    if (record === null || ENDED_STATES.has(record.state)) {
      await records.dropLease(sessionId, driverId);
      if (record !== null) await records.expireEnded(sessionId);
      return null;
    }
    const members = await this.deps.fleet.members();
    const worker = members.find(({ memberId }) => record.lane.includes(memberId)) ?? null;
    const decode = members.find(({ memberId }) => memberId === record.decodeId) ?? null;
    return { record, worker, decode };
  }

  /**
   * Asks the router that keeps an idle session to let it go, and waits a moment for that.
   * @returns whether that router does not drive it any more
   */
  async request(sessionId: string): Promise<boolean> {
    const { records, driverRequests } = this.deps.store;
    const holder = await records.leaseHolder(sessionId);
    if (holder === null) return true;
    const untilMs = performance.now() + YIELD_MS;
    while (performance.now() < untilMs) {
      // Again each time: it may not be idle yet, or find what it has let go undriven and take it back.
      if (!(await driverRequests.send(holder, { kind: 'yield', sessionId }))) return false;
      await delay(LOOK_MS);
      if ((await records.leaseHolder(sessionId)) !== holder) return true;
    }
    return false;
  }

  /** A record of another version stays for a router that can read it. */
  async #readable(sessionId: string): Promise<SessionRecord | null> {
    try {
      return await this.deps.store.records.load(sessionId);
    } catch (error) {
      if (!(error instanceof ServingError && error.code === 'DATA_LOSS')) throw error;
      this.deps.log.warn({ err: error, sessionId }, 'a session record is not readable');
      return null;
    }
  }
}
