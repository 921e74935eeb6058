import { connect, createServer, type Socket } from 'node:net';

export interface LossyProxy {
  /**
   * From now on the first reply of the server is swallowed and its connection cut: the command was
   * done, but its sender cannot know. Resolves when that has happened.
   */
  loseNextReply(): Promise<void>;
  close(): Promise<void>;
}

/** Forwards a unix socket to another. */
export async function startLossyProxy(from: string, to: string): Promise<LossyProxy> {
  const sockets = new Set<Socket>();
  let onLost: (() => void) | null = null;
  const server = createServer((client) => {
    const upstream = connect(to);
    const cut = (): void => {
      client.destroy();
      upstream.destroy();
    };
    for (const socket of [client, upstream]) {
      sockets.add(socket);
      socket.on('error', cut).on('close', cut);
    }
    client.on('data', (bytes) => upstream.write(bytes));
    upstream.on('data', (bytes) => {
      if (onLost === null) {
        client.write(bytes);
        return;
      }
      cut();
      onLost();
      onLost = null;
    });
  });
  await new Promise<void>((resolve) => server.listen(from, resolve));
  return {
    loseNextReply: async () =>
      new Promise((resolve) => {
        onLost = resolve;
      }),
    close: async () => {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
