import type { Redis } from 'ioredis';
import type { Log } from '../log.js';

/** Tells one follower that its session has news. */
export interface Bell {
  /**
   * Resolves at the next ring after this call. Take it before a read: then no ring between the
   * read and the wait is lost.
   */
  next(): Promise<void>;
  close(): void;
}

/** Wake-ups of many followers over one subscribed connection. They may be lost: followers also poll. */
export interface WakeUps {
  listen(channel: string): Bell;
}

/** @param subscriber a connection of its own: a subscribed one takes no other commands */
export function makeWakeUps(subscriber: Redis, log: Log): WakeUps {
  const bells = new Map<string, Set<() => void>>();
  const ignore = (error: unknown): void => {
    log.debug({ err: error }, 'subscription; followers poll meanwhile');
  };
  subscriber.on('message', (channel: string) => {
    for (const ring of bells.get(channel) ?? []) ring();
  });
  // After a reconnect anything may have happened.
  subscriber.on('ready', () => {
    for (const rings of bells.values()) for (const ring of rings) ring();
  });

  return {
    listen: (channel) => {
      let wake: (() => void) | null = null;
      const ring = (): void => {
        wake?.();
      };
      const rings = bells.get(channel);
      if (rings === undefined) {
        bells.set(channel, new Set([ring]));
        subscriber.subscribe(channel).then(ring, ignore);
      } else {
        rings.add(ring);
      }
      return {
        next: async () =>
          new Promise((resolve) => {
            wake = resolve;
          }),
        close: () => {
          const left = bells.get(channel);
          left?.delete(ring);
          if (left?.size !== 0) return;
          bells.delete(channel);
          subscriber.unsubscribe(channel).catch(ignore);
        },
      };
    },
  };
}
