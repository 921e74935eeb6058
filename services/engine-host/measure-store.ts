import { Gauge, type Registry } from 'prom-client';
import { valueStoreStatus } from '../../native/ts/index.js';
import type { EngineHost } from './engine-host.js';

/** `files` and `free`: of the store, which its members share. `mapped` and `private`: of the process. */
export type StoreBytesKind = 'files' | 'mapped' | 'private' | 'free';

/**
 * Tells what the value store holds whenever the registry is read, not at each heartbeat: it walks
 * every file of the store.
 */
export function measureStore(
  registry: Registry,
  host: Pick<EngineHost, 'valueStore'>,
  kinds: readonly StoreBytesKind[],
): void {
  new Gauge({
    name: 'longshadow_store_bytes',
    help: `Value store bytes by kind (${kinds.join(', ')})`,
    labelNames: ['kind'],
    registers: [registry],
    collect() {
      const status = valueStoreStatus(host.valueStore);
      const bytes: Record<StoreBytesKind, number> = {
        files: status.fileBytes,
        mapped: status.mappedBytes,
        private: status.privateBytes,
        free: status.freeBytes,
      };
      for (const kind of kinds) this.set({ kind }, bytes[kind]);
    },
  });
}
