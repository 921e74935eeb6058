import { valueStoreStatus } from '../../native/ts/index.js';
import type { EngineHost } from './engine-host.js';

/** The part of GetStatus that worker and decode have in common. */
export interface HostStatus {
  readonly memberId: string;
  readonly storeFiles: number;
  readonly storeFileBytes: number;
  readonly mappings: number;
  readonly mappedBytes: number;
  readonly privateBytes: number;
  readonly residentBytes: number;
}

/** What the process holds now. */
export function hostStatus(host: EngineHost): HostStatus {
  const store = valueStoreStatus(host.valueStore);
  return {
    memberId: host.memberId,
    storeFiles: store.files,
    storeFileBytes: store.fileBytes,
    mappings: store.mappings,
    mappedBytes: store.mappedBytes,
    privateBytes: store.privateBytes,
    residentBytes: process.memoryUsage.rss(),
  };
}
