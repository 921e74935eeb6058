import { ServingError } from '../domain/serving-error.js';

const MIB = 2 ** 20;
/** What `docker run` and Kubernetes give /dev/shm unless told otherwise. */
const CONTAINER_DEFAULT_BYTES = 64 * MIB;
const CONTAINER_REMEDY =
  'Containers give /dev/shm 64 MiB: use --shm-size (Docker), an emptyDir of medium Memory ' +
  '(Kubernetes), or another directory in WORKER_STORE_DIR and DECODE_STORE_DIR.';
/** Share of the file system's free bytes that sessions may reserve, unless a setting says. */
const DEFAULT_SHARE = 0.8;

/**
 * How many bytes sessions may reserve in a value store.
 *
 * @param configuredBytes the operator's limit; null for 80 % of what is free
 * @throws ServingError VALUE_STORE_FULL if not even one page of a session would fit, or if the
 *   operator's limit is more than the file system has
 */
export function storeCapacity(store: {
  readonly directory: string;
  readonly capacityBytes: number;
  readonly freeBytes: number;
  readonly fileBytes: number;
  readonly smallestSessionBytes: number;
  readonly configuredBytes: number | null;
}): number {
  const { directory, capacityBytes, configuredBytes } = store;
  const remedy =
    capacityBytes <= CONTAINER_DEFAULT_BYTES
      ? CONTAINER_REMEDY
      : 'Free space there, or set another directory in WORKER_STORE_DIR and DECODE_STORE_DIR.';
  if (configuredBytes !== null && configuredBytes > capacityBytes) {
    throw new ServingError(
      'VALUE_STORE_FULL',
      `WORKER_STORE_CAPACITY_BYTES is ${String(configuredBytes)}, but the file system of ` +
        `${directory} has ${String(capacityBytes)} bytes. ${remedy}`,
    );
  }
  // Files that survived a restart are the store's own: they count as room.
  const bytes = configuredBytes ?? Math.floor(DEFAULT_SHARE * (store.freeBytes + store.fileBytes));
  if (bytes < store.smallestSessionBytes) {
    throw new ServingError(
      'VALUE_STORE_FULL',
      `the value store ${directory} offers ${String(bytes)} bytes; the smallest session takes ` +
        `${String(store.smallestSessionBytes)}. ${remedy}`,
    );
  }
  return bytes;
}

/** What to tell the operator of a store that works but holds no long prompt; null if it is fine. */
export function storeWarning(directory: string, capacityBytes: number): string | null {
  if (capacityBytes > CONTAINER_DEFAULT_BYTES) return null;
  const mebibytes = String(Math.floor(capacityBytes / MIB));
  return `the value store ${directory} has only ${mebibytes} MiB in all. ${CONTAINER_REMEDY}`;
}
