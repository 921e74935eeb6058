import { ServingError } from '../../domain/serving-error.js';
import { canonicalJson } from '../../platform/fingerprint.js';
import type { SessionRecord } from '../../domain/session-record.js';
import type { SessionRecords } from '../../domain/session-store.js';

export type RecordChange = Partial<Omit<SessionRecord, 'revision' | 'sessionId' | 'schemaVersion'>>;

/** The session is another driver's now; nothing more may be done for it here. */
export class LeaseLost extends Error {
  override readonly name = 'LeaseLost';
}

/** A driver's copy of the record that it alone changes, one change after the other. */
export class RecordKeeper {
  #queue: Promise<unknown> = Promise.resolve();

  constructor(
    private readonly records: SessionRecords,
    private readonly driverId: string,
    private record: SessionRecord,
  ) {}

  get current(): SessionRecord {
    return this.record;
  }

  /** @throws LeaseLost, or ServingError REDIS_UNAVAILABLE */
  async change(change: RecordChange | ((record: SessionRecord) => RecordChange)): Promise<void> {
    const run = this.#queue.then(async () => this.#apply(change));
    this.#queue = run.catch(() => undefined);
    return run;
  }

  async #apply(change: RecordChange | ((record: SessionRecord) => RecordChange)): Promise<void> {
    const next = {
      ...this.record,
      ...(typeof change === 'function' ? change(this.record) : change),
    };
    const stored = await this.records.compareAndSet(this.record, next, this.driverId);
    if (stored !== null) {
      this.record = stored;
      return;
    }
    const { sessionId } = this.record;
    const lease = await this.records.takeLease(sessionId, this.driverId);
    if (lease === 'elsewhere') throw new LeaseLost(`session ${sessionId} has another driver`);
    const found = lease === 'gone' ? null : await this.records.load(sessionId);
    if (found === null) throw sessionLost();
    // A write whose answer was lost is there as it was sent.
    if (canonicalJson(found) === canonicalJson({ ...next, revision: this.record.revision + 1 })) {
      this.record = found;
      return;
    }
    // The lease had run out, and nobody took it; or somebody did, and knows more than this copy.
    if (found.revision !== this.record.revision) {
      throw new LeaseLost(`session ${sessionId} was changed by another driver`);
    }
    const again = await this.records.compareAndSet(found, next, this.driverId);
    if (again === null) throw new LeaseLost(`session ${sessionId} was changed meanwhile`);
    this.record = again;
  }
}

export function sessionLost(): ServingError {
  return new ServingError(
    'SESSION_LOST',
    'Redis lost its data, and the session with it; send the request again',
    { retryAfterMs: 1_000 },
  );
}
