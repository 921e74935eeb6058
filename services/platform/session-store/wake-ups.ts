import type { Subscriptions } from './subscriptions.js';

/** Tells one follower that its session has news. */
export interface Bell {
  /**
   * Resolves at the next ring after this call. Take it before a read: then no ring between the
   * read and the wait is lost.
   */
  next(): Promise<void>;
  close(): void;
}

/** Wake-ups of many followers. They may be lost: followers also poll. */
export interface WakeUps {
  listen(channel: string): Bell;
}

export function makeWakeUps(subscriptions: Subscriptions): WakeUps {
  return {
    listen: (channel) => {
      let wake: (() => void) | null = null;
      const ring = (): void => {
        wake?.();
      };
      // Before it was subscribed anything may have happened.
      const close = subscriptions.listen(channel, { onMessage: ring, onSubscribed: ring });
      return {
        next: async () =>
          new Promise((resolve) => {
            wake = resolve;
          }),
        close,
      };
    },
  };
}
