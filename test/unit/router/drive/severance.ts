import type { SessionStore } from '../../../../services/domain/session-store.js';

/**
 * What stands between a router and all else, so that a test can cut it off as SIGKILL does: calls that
 * are under way go on, and those that it would make from then on are never made nor answered.
 */
export class Severance {
  #isCut = false;
  readonly #subscriptions: (() => void)[] = [];

  cut(): void {
    this.#isCut = true;
    for (const end of this.#subscriptions) end();
  }

  /** The same object, until the cut. All its methods but the store's listeners return promises. */
  of<T extends object>(target: T): T {
    return new Proxy(target, {
      get: (_, name) => {
        const member: unknown = Reflect.get(target, name, target);
        if (typeof member !== 'function') return member;
        return (...args: unknown[]): unknown =>
          this.#isCut ? new Promise(() => undefined) : Reflect.apply(member, target, args);
      },
    });
  }

  store(store: SessionStore): SessionStore {
    const { driverRequests, events } = store;
    const requests = this.of(driverRequests);
    const listen: SessionStore['driverRequests']['listen'] = (...args) => {
      const end = driverRequests.listen(...args);
      this.#subscriptions.push(end);
      return end;
    };
    const severed = this.of(events);
    return {
      records: this.of(store.records),
      // A follower ends by its signal, and reads through what is not cut: it only reads.
      events: {
        append: severed.append.bind(severed),
        appendAll: severed.appendAll.bind(severed),
        read: severed.read.bind(severed),
        beginTurn: severed.beginTurn.bind(severed),
        lastSequence: severed.lastSequence.bind(severed),
        follow: (...args) => events.follow(...args),
      },
      tokenIds: this.of(store.tokenIds),
      fleet: this.of(store.fleet),
      reservations: this.of(store.reservations),
      clients: this.of(store.clients),
      driverRequests: { send: requests.send.bind(requests), listen },
      kept: this.of(store.kept),
      prefixes: this.of(store.prefixes),
      fairShares: this.of(store.fairShares),
    };
  }
}
