import type { TlsFiles } from '../../platform/config/common-settings.js';
import { makeClient, unaryCall } from '../../platform/rpc/client.js';
import type { ServiceTypes } from '../../platform/rpc/load-service.js';
import type { ReusedSegment, ReuseSegmentsCall, WorkerPeers } from '../drive/peers.js';
import { ClientPool } from './client-pool.js';

/** A release answers when native work has stopped: polled in far less than this. */
const RELEASE_TIMEOUT_MS = 10_000;
/** Links of some hundred files, and the unmapping of what they replace. */
const REUSE_TIMEOUT_MS = 10_000;
const STATUS_TIMEOUT_MS = 1_000;

/** Calls to workers over gRPC. */
export class WorkerClients implements WorkerPeers {
  readonly #pool: ClientPool<ServiceTypes['worker']['client']>;

  constructor(tls: TlsFiles | null) {
    this.#pool = new ClientPool((address) => makeClient('worker', address, tls));
  }

  async releaseSession(address: string, sessionId: string, epoch: number): Promise<void> {
    const options = { timeoutMs: RELEASE_TIMEOUT_MS, unavailable: 'WORKER_LOST' } as const;
    await unaryCall(this.#pool.get(address), 'releaseSession', { sessionId, epoch }, options);
  }

  async reuseSegments(
    address: string,
    call: ReuseSegmentsCall,
    signal: AbortSignal,
  ): Promise<ReusedSegment[]> {
    const options = { signal, timeoutMs: REUSE_TIMEOUT_MS, unavailable: 'WORKER_LOST' } as const;
    const { segments } = await unaryCall(this.#pool.get(address), 'reuseSegments', call, options);
    return segments.map(({ beginToken, endToken, bytes }) => ({
      beginToken: Number(beginToken),
      endToken: Number(endToken),
      bytes: Number(bytes),
    }));
  }

  async getStatus(address: string): ReturnType<WorkerPeers['getStatus']> {
    const options = { timeoutMs: STATUS_TIMEOUT_MS, unavailable: 'WORKER_LOST' } as const;
    const status = await unaryCall(this.#pool.get(address), 'getStatus', {}, options);
    return {
      sessions: status.sessions,
      storeFiles: Number(status.storeFiles),
      storeFileBytes: Number(status.storeFileBytes),
      mappings: Number(status.mappings),
      mappedBytes: Number(status.mappedBytes),
      privateBytes: Number(status.privateBytes),
      residentBytes: Number(status.residentBytes),
      prefillChunks: Number(status.prefillChunks),
      decodeCalls: 0,
      decodeSteps: 0,
    };
  }

  retain(addresses: ReadonlySet<string>): void {
    this.#pool.retain(addresses);
  }

  close(): void {
    this.#pool.close();
  }
}
