import { ServingError } from '../../domain/serving-error.js';
import type { TlsFiles } from '../../platform/config/common-settings.js';
import { makeClient } from '../../platform/rpc/client.js';
import type { ServiceTypes } from '../../platform/rpc/load-service.js';
import { fromStatus } from '../../platform/rpc/status.js';

type WorkerClient = ServiceTypes['worker']['client'];

/**
 * Hand-offs over this are not ours: one of the cache policy `full` is a header, a hidden row and
 * the manifest of some thousand segments, well below a megabyte.
 */
export const MAX_HAND_OFF_BYTES = 2 ** 26;
const HAND_OFF_TIMEOUT_MS = 120_000;

/** Clients of the workers that this decode takes sessions from, one a worker. */
export class WorkerClients {
  readonly #clients = new Map<string, WorkerClient>();

  constructor(private readonly tls: TlsFiles | null) {}

  /**
   * Fetches a sealed session's hand-off.
   *
   * @throws ServingError WORKER_LOST if the worker cannot be reached, CANCELLED when `signal`
   *   aborts, DATA_LOSS past any sensible size, or what the worker answers
   */
  async fetchHandOff(
    address: string,
    request: { readonly sessionId: string; readonly epoch: number },
    signal: AbortSignal,
  ): Promise<Uint8Array> {
    const call = this.#client(address).getHandOff(request, {
      deadline: Date.now() + HAND_OFF_TIMEOUT_MS,
    });
    const cancel = (): void => {
      call.cancel();
    };
    if (signal.aborted) cancel();
    signal.addEventListener('abort', cancel, { once: true });
    const pieces: Buffer[] = [];
    let bytes = 0;
    try {
      for await (const { piece } of call as AsyncIterable<{ readonly piece: Buffer }>) {
        bytes += piece.length;
        if (bytes > MAX_HAND_OFF_BYTES) {
          throw new ServingError('DATA_LOSS', 'the hand-off is larger than any can be');
        }
        pieces.push(piece);
      }
    } catch (error) {
      call.cancel();
      throw fromStatus(error, 'WORKER_LOST');
    } finally {
      signal.removeEventListener('abort', cancel);
    }
    return Buffer.concat(pieces);
  }

  close(): void {
    for (const client of this.#clients.values()) client.close();
    this.#clients.clear();
  }

  #client(address: string): WorkerClient {
    const known = this.#clients.get(address);
    if (known !== undefined) return known;
    const client = makeClient('worker', address, this.tls);
    this.#clients.set(address, client);
    return client;
  }
}
