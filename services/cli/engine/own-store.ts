import { openValueStore, type ValueStoreHandle } from '../../../native/ts/index.js';
import {
  createClusterDirectories,
  defaultStoreBase,
  removeClusterDirectories,
} from '../cluster/cluster-directories.js';

/**
 * Runs with a value store of its own, which goes afterwards with all that is in it. What a killed
 * process leaves is swept by the next one.
 *
 * @throws ServingError BAD_REQUEST when the store cannot be made
 */
export async function withOwnStore<T>(run: (store: ValueStoreHandle) => Promise<T>): Promise<T> {
  const directories = createClusterDirectories(defaultStoreBase());
  try {
    return await run(openValueStore(directories.store));
  } finally {
    removeClusterDirectories(directories);
  }
}
