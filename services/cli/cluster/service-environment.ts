import type { ServiceRole } from './service-child.js';

/** What a cluster decides for each of its services. */
export interface ServicePlace {
  readonly inherited: NodeJS.ProcessEnv;
  readonly listen: string;
  readonly redisUrl: string;
  readonly modelDirectory: string;
  readonly storeDirectory: string;
}

/** The environment of one service process; names are those of docs/configuration.md. */
export function serviceEnvironment(role: ServiceRole, place: ServicePlace): NodeJS.ProcessEnv {
  return {
    ...place.inherited,
    LONGSHADOW_EXIT_WITH_PARENT: '1',
    REDIS_URL: place.redisUrl,
    [`LONGSHADOW_${role.toUpperCase()}_LISTEN`]: place.listen,
    LONGSHADOW_MODEL: place.modelDirectory,
    LONGSHADOW_STORE: place.storeDirectory,
  };
}
