import type { DriveDeps } from './drive-deps.js';

const POLL_MS = 1_000;
const SHORTEST_POLL_MS = 250;

/**
 * Watches whether any router relays a session's events to a client, once this one does not: a client
 * may have resumed elsewhere, and a router's death is not a client's disconnect.
 */
export class ClientWatch {
  #timer: NodeJS.Timeout | null = null;

  constructor(
    private readonly sessionId: string,
    private readonly deps: DriveDeps,
  ) {}

  /** Calls `onAbsent` once nobody has relayed for `graceMs`. A second start replaces the first. */
  start(graceMs: number, onAbsent: () => void): void {
    this.stop();
    const { deps, sessionId } = this;
    let lastSeenUnixMs = deps.nowUnixMs();
    let looking = false;
    const look = async (): Promise<void> => {
      if (looking) return;
      looking = true;
      try {
        if (await deps.store.clients.isAttached(sessionId)) lastSeenUnixMs = deps.nowUnixMs();
      } catch {
        lastSeenUnixMs = deps.nowUnixMs(); // Redis is away: nothing is known
      }
      looking = false;
      if (this.#timer !== timer || deps.nowUnixMs() - lastSeenUnixMs < graceMs) return;
      this.stop();
      onAbsent();
    };
    const timer = setInterval(
      () => void look(),
      Math.min(POLL_MS, Math.max(graceMs, SHORTEST_POLL_MS)),
    );
    this.#timer = timer;
  }

  stop(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
  }
}
