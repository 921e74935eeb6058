import type { Redis } from 'ioredis';
import type { Log } from '../log.js';

export interface Listener {
  onMessage(message: string): void;
  /** The channel is subscribed now: messages before this, since the connection broke, are lost. */
  onSubscribed?(): void;
}

/** Channels that many listen to over one subscribed connection, across reconnects. */
export interface Subscriptions {
  /** Until the returned function is called. Messages may be lost. */
  listen(channel: string, listener: Listener): () => void;
}

/** @param subscriber a connection of its own: a subscribed one takes no other commands */
export function makeSubscriptions(subscriber: Redis, log: Log): Subscriptions {
  const listeners = new Map<string, Set<Listener>>();

  const subscribe = (channels: readonly string[]): void => {
    if (channels.length === 0) return;
    subscriber.subscribe(...channels).then(
      () => {
        const subscribed = channels.flatMap((channel) => [...(listeners.get(channel) ?? [])]);
        for (const listener of subscribed) listener.onSubscribed?.();
      },
      (error: unknown) => {
        log.debug({ err: error }, 'subscription; it is repeated when Redis is back');
      },
    );
  };
  subscriber.on('message', (channel: string, message: string) => {
    for (const listener of [...(listeners.get(channel) ?? [])]) listener.onMessage(message);
  });
  // ioredis subscribes again by itself, but tells nobody when that is done; twice does no harm.
  subscriber.on('ready', () => {
    subscribe([...listeners.keys()]);
  });

  return {
    listen: (channel, listener) => {
      const others = listeners.get(channel);
      if (others === undefined) {
        listeners.set(channel, new Set([listener]));
        subscribe([channel]);
      } else {
        others.add(listener);
      }
      return () => {
        const left = listeners.get(channel);
        if (left?.delete(listener) !== true || left.size > 0) return;
        listeners.delete(channel);
        subscriber.unsubscribe(channel).catch((error: unknown) => {
          log.debug({ err: error }, 'end of a subscription');
        });
      };
    },
  };
}
