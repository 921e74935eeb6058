import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { UntypedServiceImplementation } from '@grpc/grpc-js';
import { loadSync, type PackageDefinition, type ServiceDefinition } from '@grpc/proto-loader';
import type {
  DecodeServiceClient,
  DecodeServiceDefinition,
  DecodeServiceHandlers,
} from '../../../proto/gen/longshadow/decode/v1/DecodeService.js';
import type {
  RouterServiceClient,
  RouterServiceDefinition,
  RouterServiceHandlers,
} from '../../../proto/gen/longshadow/router/v1/RouterService.js';
import type {
  WorkerServiceClient,
  WorkerServiceDefinition,
  WorkerServiceHandlers,
} from '../../../proto/gen/longshadow/worker/v1/WorkerService.js';

/** The generated types of each service. */
export interface ServiceTypes {
  router: {
    definition: RouterServiceDefinition;
    handlers: RouterServiceHandlers;
    client: RouterServiceClient;
  };
  worker: {
    definition: WorkerServiceDefinition;
    handlers: WorkerServiceHandlers;
    client: WorkerServiceClient;
  };
  decode: {
    definition: DecodeServiceDefinition;
    handlers: DecodeServiceHandlers;
    client: DecodeServiceClient;
  };
}

export type ServiceName = keyof ServiceTypes;

export interface LoadedService<N extends ServiceName = ServiceName> {
  readonly name: N;
  /** `longshadow.<name>.v1.<Name>Service`. */
  readonly fullName: string;
  /** Everything in the proto file; reflection serves it. */
  readonly packageDefinition: PackageDefinition;
  readonly service: ServiceTypes[N]['definition'];
}

/** A service and the handlers that implement it. */
export type HostedService = {
  [N in ServiceName]: {
    readonly definition: LoadedService<N>;
    readonly implementation: ServiceTypes[N]['handlers'] & UntypedServiceImplementation;
  };
}[ServiceName];

/*
 * The options that proto/gen was generated with: 64-bit integers and enums are strings, bytes are
 * Buffers, absent fields have their defaults, oneofs name the field that is set.
 */
const LOADER_OPTIONS = {
  longs: String,
  enums: String,
  bytes: Buffer,
  defaults: true,
  oneofs: true,
} as const;

/** Loads a service's proto file; about 10 ms. */
export function loadService<N extends ServiceName>(name: N): LoadedService<N> {
  const fullName = `longshadow.${name}.v1.${name.charAt(0).toUpperCase()}${name.slice(1)}Service`;
  const file = join(protoFolder(), 'longshadow', name, 'v1', `${name}_service.proto`);
  const packageDefinition = loadSync(file, LOADER_OPTIONS);
  const service = packageDefinition[fullName] as ServiceDefinition | undefined;
  if (service === undefined) throw new Error(`${file} does not define ${fullName}`);
  // The generated types describe this very file; proto-loader itself types it loosely.
  const definition = service as unknown as ServiceTypes[N]['definition'];
  return { name, fullName, packageDefinition, service: definition };
}

/** `proto/` of the project, found from the source tree and from `dist/` alike. */
function protoFolder(): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(folder, 'proto', 'longshadow'))) {
    const parent = dirname(folder);
    if (parent === folder) throw new Error('the proto/ folder is missing beside the services');
    folder = parent;
  }
  return join(folder, 'proto');
}
