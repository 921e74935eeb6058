import { Gauge, type Registry } from 'prom-client';
import { valueStoreStatus } from '../../native/ts/index.js';
import type { EngineHost } from './engine-host.js';

/**
 * Tells what the value store holds whenever the registry is read, not at each heartbeat: it walks
 * every file of the store.
 */
export function measureStore(registry: Registry, host: Pick<EngineHost, 'valueStore'>): void {
  new Gauge({
    name: 'longshadow_store_bytes',
    help: 'Value store bytes by kind (files, mapped, private, free)',
    labelNames: ['kind'],
    registers: [registry],
    collect() {
      const status = valueStoreStatus(host.valueStore);
      this.set({ kind: 'files' }, status.fileBytes);
      this.set({ kind: 'mapped' }, status.mappedBytes);
      this.set({ kind: 'private' }, status.privateBytes);
      this.set({ kind: 'free' }, status.freeBytes);
    },
  });
}
