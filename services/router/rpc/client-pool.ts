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

  close(): void {
    for (const client of this.#clients.values()) client.close();
    this.#clients.clear();
  }
}
