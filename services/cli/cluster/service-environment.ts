import { basename } from 'node:path';
import type { ServiceRole } from './service-child.js';

/** What a cluster decides for each of its services. */
export interface ServicePlace {
  /** Of the member; the same after a restart, so that a worker finds its sessions again. */
  readonly name: string;
  readonly inherited: NodeJS.ProcessEnv;
  readonly listen: string;
  readonly redisUrl: string;
  readonly modelDirectory: string;
  readonly storeDirectory: string;
  /** Of the model; null: minference.json in its folder, if it is there. */
  readonly patternsFile: string | null;
}

/** The environment of one service process; names are those of docs/configuration.md. */
export function serviceEnvironment(role: ServiceRole, place: ServicePlace): NodeJS.ProcessEnv {
  const prefix = role.toUpperCase();
  const model = basename(place.modelDirectory);
  return {
    // Who stops a local cluster does not wait for its sessions; the environment may say otherwise.
    [`${prefix}_SHUTDOWN_GRACE_MS`]: '1000',
    ...place.inherited,
    LONGSHADOW_EXIT_WITH_PARENT: '1',
    REDIS_URL: place.redisUrl,
    [`${prefix}_LISTEN`]: place.listen,
    ...(role === 'router'
      ? { ROUTER_MODELS: `${model}=${place.modelDirectory}` }
      : {
          [`${prefix}_ID`]: place.name,
          [`${prefix}_MODEL_DIR`]: place.modelDirectory,
          [`${prefix}_STORE_DIR`]: place.storeDirectory,
        }),
    ...patternsEnvironment(role, model, place.patternsFile),
  };
}

/** Router and worker must read the same patterns; a decode needs none. */
function patternsEnvironment(
  role: ServiceRole,
  model: string,
  file: string | null,
): NodeJS.ProcessEnv {
  if (file === null || role === 'decode') return {};
  return role === 'router'
    ? { ROUTER_PATTERNS_FILES: `${model}=${file}` }
    : { WORKER_PATTERNS_FILE: file };
}
