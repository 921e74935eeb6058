import type { SessionEvent } from '../../domain/session-event.js';
import type { SessionEvents } from '../../domain/session-store.js';
import { newAppendId } from '../../platform/session-store/append-id.js';

/** An event and the turn that it belongs to. */
export interface TurnEvent {
  readonly sessionId: string;
  readonly epoch: number;
  /** In which this decode took the session: from a later one on, its events are refused. */
  readonly attempt: number;
  readonly turn: number;
  readonly event: SessionEvent;
}

export interface PendingEvent extends TurnEvent {
  /** Made once, so that a repeated round trip appends nothing twice. */
  readonly appendId: string;
}

/** Why a session's stream took no more: its decode has nothing left to do. */
export type Refusal = 'stale-epoch' | 'ended' | 'unknown';

export interface EventPublisherOptions {
  readonly events: Pick<SessionEvents, 'appendAll'>;
  /** Told once per turn, attempt and reason of a round trip. */
  readonly onRefused: (event: PendingEvent, refusal: Refusal) => void;
  readonly onError: (error: unknown) => void;
  readonly sleep: (ms: number) => Promise<void>;
  /** Events that may wait before the loop is held up. */
  readonly maxWaitingEvents: number;
}

const FIRST_RETRY_MS = 50;
const MAX_RETRY_MS = 1000;

/**
 * Appends events in order, one round trip at a time, while the next steps run. What comes during a
 * round trip goes together in the next one. A failed round trip is repeated; what had arrived of it
 * is known by its append id, or by its token's index.
 */
export class EventPublisher {
  #waiting: PendingEvent[] = [];
  #pump: Promise<void> | null = null;
  #closed = false;
  #roomWaiters: (() => void)[] = [];

  constructor(private readonly options: EventPublisherOptions) {}

  push(...events: TurnEvent[]): void {
    if (this.#closed || events.length === 0) return;
    for (const event of events) this.#waiting.push({ ...event, appendId: newAppendId() });
    this.#pump ??= this.#run();
  }

  /** Settles when the loop may run ahead again. */
  async room(): Promise<void> {
    while (!this.#closed && this.#waiting.length >= this.options.maxWaitingEvents) {
      await new Promise<void>((resolve) => this.#roomWaiters.push(resolve));
    }
  }

  /** Settles when everything pushed so far was appended or refused, or after close(). */
  async drain(): Promise<void> {
    await this.#pump;
  }

  /** Drops what waits. */
  close(): void {
    this.#closed = true;
    this.#waiting = [];
    this.#wakeRoomWaiters();
  }

  async #run(): Promise<void> {
    // push() adds to #waiting while a round trip is under way.
    while (this.#waiting.length > 0) {
      const batch = this.#waiting;
      this.#waiting = [];
      await this.#append(batch);
      this.#wakeRoomWaiters();
    }
    // In the same turn of the event loop as the check above, so that no push falls between.
    this.#pump = null;
  }

  async #append(batch: readonly PendingEvent[]): Promise<void> {
    for (
      let delayMs = FIRST_RETRY_MS;
      !this.#closed;
      delayMs = Math.min(delayMs * 2, MAX_RETRY_MS)
    ) {
      try {
        const answers = await this.options.events.appendAll(batch);
        this.#tellRefusals(batch, answers);
        return;
      } catch (error) {
        this.options.onError(error);
        await this.options.sleep(delayMs);
      }
    }
  }

  #tellRefusals(
    batch: readonly PendingEvent[],
    answers: Awaited<ReturnType<SessionEvents['appendAll']>>,
  ): void {
    const told = new Set<string>();
    answers.forEach((answer, index) => {
      const event = batch[index];
      if (event === undefined || typeof answer === 'number' || answer === 'duplicate') return;
      const { sessionId, epoch, attempt, turn } = event;
      const refusal = [sessionId, epoch, attempt, turn, answer].join(' ');
      if (told.has(refusal)) return;
      told.add(refusal);
      this.options.onRefused(event, answer);
    });
  }

  #wakeRoomWaiters(): void {
    const waiters = this.#roomWaiters;
    this.#roomWaiters = [];
    for (const wake of waiters) wake();
  }
}
