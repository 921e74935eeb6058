import type { FleetMember } from '../../domain/fleet.js';
import type { Fleet } from '../../domain/session-store.js';

/** The fleet, read at most once in `maxAgeMs` however many sessions ask. */
export class FleetView {
  #members: Promise<FleetMember[]> | null = null;
  #readAtMs = -Infinity;

  constructor(
    private readonly fleet: Fleet,
    private readonly maxAgeMs: number,
    private readonly nowMs: () => number,
  ) {}

  async members(): Promise<FleetMember[]> {
    if (this.#members === null || this.nowMs() - this.#readAtMs > this.maxAgeMs) {
      this.#readAtMs = this.nowMs();
      const reading = this.fleet.members();
      this.#members = reading;
      reading.catch(() => {
        if (this.#members === reading) this.#members = null; // the next caller tries again
      });
    }
    return this.#members;
  }

  async isAlive(memberId: string): Promise<boolean> {
    const members = await this.members();
    return members.some((member) => member.memberId === memberId);
  }

  /** Whether a member takes work: one that leaves finishes what it has and takes no more. */
  async isTaking(memberId: string): Promise<boolean> {
    const members = await this.members();
    return members.some((member) => member.memberId === memberId && !member.draining);
  }

  /** False too if the member has started anew under its name: what it held is gone. */
  async isSameProcess({ memberId, startedUnixMs }: FleetMember): Promise<boolean> {
    const members = await this.members();
    return members.some(
      (member) => member.memberId === memberId && member.startedUnixMs === startedUnixMs,
    );
  }
}

/** A member that starts anew under its name holds nothing of what it held. */
export function processOf({ memberId, startedUnixMs }: FleetMember): string {
  return `${memberId}@${String(startedUnixMs)}`;
}
