/** One client an address; it reconnects by itself. */
export class ClientPool<C extends { close(): void }> {
  readonly #clients = new Map<string, C>();

  constructor(private readonly make: (address: string) => C) {}

  get(address: string): C {
    const open = this.#clients.get(address);
    if (open !== undefined) return open;
    const made = this.make(address);
    this.#clients.set(address, made);
    return made;
  }

  /** Closes the clients of all other addresses. */
  retain(addresses: ReadonlySet<string>): void {
    for (const [address, client] of this.#clients) {
      if (addresses.has(address)) continue;
      this.#clients.delete(address);
      client.close();
    }
  }

  close(): void {
    for (const client of this.#clients.values()) client.close();
    this.#clients.clear();
  }
}
