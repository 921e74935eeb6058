import type { FleetMember } from '../../domain/fleet.js';
import type { ErrorCode } from '../../domain/serving-error.js';
import type { SessionRecord } from '../../domain/session-record.js';
import { newAppendId } from '../../platform/session-store/append-id.js';
import type { DriveDeps } from './drive-deps.js';
import type { PromptTokens } from './prompt-tokens.js';
import type { RecordChange, RecordKeeper } from './record-keeper.js';
import { retryWhileRedisIsAway, unlessAborted } from './redis-gap.js';

/** A job that waits or runs. */
export interface CurrentJob {
  readonly workerId: string;
  readonly jobId: string;
}

/**
 * What the steps of one session's life share: its record, its ids, and who has it now. Everything is
 * abandoned when the signal aborts.
 */
export class DrivenSession {
  /** Null between jobs. */
  currentJob: CurrentJob | null = null;
  /** Settles when the upload has ended and all its ids are written down. */
  uploadEnd: Promise<void> = Promise.resolve();
  /** Sequences of `interrupted` events that this driver appended itself. */
  readonly ownInterruptions = new Set<number>();

  /**
   * @param worker of the lane, as the fleet last described it; null: it was not in the fleet
   * @param decode that holds the session, or would take it; null: none is known
   */
  constructor(
    readonly keeper: RecordKeeper,
    public tokens: PromptTokens,
    public worker: FleetMember | null,
    public decode: FleetMember | null,
    readonly signal: AbortSignal,
    readonly deps: DriveDeps,
  ) {}

  get record(): SessionRecord {
    return this.keeper.current;
  }

  get sessionId(): string {
    return this.record.sessionId;
  }

  get workerId(): string {
    return this.record.lane[0] ?? '';
  }

  async uploadWritten(): Promise<void> {
    await unlessAborted(this.signal, async () => this.uploadEnd);
  }

  /** Waits while Redis is away, until the session ends. */
  async surely<T>(operation: () => Promise<T>): Promise<T> {
    return retryWhileRedisIsAway(this.signal, operation);
  }

  async change(change: RecordChange | ((record: SessionRecord) => RecordChange)): Promise<void> {
    return this.surely(async () => this.keeper.change(change));
  }

  /** Tells the client that something was lost and is being made good. */
  async tellInterrupted(code: ErrorCode, message: string): Promise<void> {
    const { sessionId, epoch } = this.record;
    const appendId = newAppendId();
    const sequence = await this.surely(async () =>
      this.deps.store.events.append(
        sessionId,
        epoch,
        { type: 'interrupted', code, message },
        { appendId },
      ),
    );
    if (typeof sequence === 'number') this.ownInterruptions.add(sequence);
    this.deps.log.warn({ sessionId, epoch, code, reason: message }, 'session interrupted');
  }

  /** The lane's worker as the fleet knows it now; null while it is not in the fleet. */
  async currentWorker(): Promise<FleetMember | null> {
    const members = await this.surely(async () => this.deps.fleet.members());
    const found = members.find(({ memberId }) => memberId === this.workerId) ?? null;
    if (found !== null) this.worker = found;
    return found;
  }
}
