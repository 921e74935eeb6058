import { ServingError } from '../../domain/serving-error.js';
import type { Clients } from '../../domain/session-store.js';
import type { Log } from '../../platform/log.js';

/** A driver takes a client for gone after three of these. */
const REPEAT_MS = 2_000;

/** One client that this router relays a session's events to. */
export interface Relay {
  /**
   * The relay has ended. Once.
   * @returns true if no other client of this router follows the session
   */
  close(): boolean;
}

/**
 * The clients that this router relays events to. As long as a session has one, Redis says so: its
 * driver may be another router, and ends a session that nobody listens to.
 */
export class Relays {
  readonly #sessions = new Map<string, { clients: number; timer: NodeJS.Timeout }>();
  readonly #stop = new AbortController();

  constructor(
    private readonly clients: Clients,
    private readonly routerId: string,
    private readonly log: Log,
  ) {}

  /** Aborts with SHUTTING_DOWN when relays are to end. */
  get stopped(): AbortSignal {
    return this.#stop.signal;
  }

  /** Ends all relays: their clients go on with Resume at another router. */
  stop(): void {
    this.#stop.abort(
      new ServingError(
        'SHUTTING_DOWN',
        'this router is shutting down; go on with Resume at another one',
      ),
    );
  }

  open(sessionId: string): Relay {
    const session = this.#sessions.get(sessionId) ?? this.#attach(sessionId);
    session.clients += 1;
    return {
      close: () => {
        session.clients -= 1;
        if (session.clients > 0) return false;
        clearInterval(session.timer);
        this.#sessions.delete(sessionId);
        this.#tell(sessionId, this.clients.detach(sessionId, this.routerId));
        return true;
      },
    };
  }

  #attach(sessionId: string): { clients: number; timer: NodeJS.Timeout } {
    const attach = (): void => {
      this.#tell(sessionId, this.clients.attach(sessionId, this.routerId));
    };
    attach();
    const session = { clients: 0, timer: setInterval(attach, REPEAT_MS).unref() };
    this.#sessions.set(sessionId, session);
    return session;
  }

  /** Redis may be away: the next repetition, or the end of what was said, makes it good. */
  #tell(sessionId: string, said: Promise<void>): void {
    said.catch((error: unknown) => {
      this.log.debug({ err: error, sessionId }, 'a client could not be announced');
    });
  }
}
