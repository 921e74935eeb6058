import type { ServiceError } from '@grpc/grpc-js';
import type { GenerateHeader } from '../../proto/gen/longshadow/router/v1/GenerateHeader.js';
import type { GenerateResponse__Output } from '../../proto/gen/longshadow/router/v1/GenerateResponse.js';
import type { RouterServiceClient } from '../../proto/gen/longshadow/router/v1/RouterService.js';
import { MODEL } from './cluster.js';
import { idParts } from './generate.js';
import { poll } from './poll.js';

type Wanted = (event: GenerateResponse__Output) => boolean;

/** A Generate call under way, which the test may leave or have cancelled at an event. */
export interface OpenCall {
  readonly events: readonly GenerateResponse__Output[];
  /** What the call ended with; null if it ended well. */
  readonly ended: Promise<ServiceError | null>;
  /** Waits for an event, those that came before among them. */
  sees(wanted: Wanted): Promise<GenerateResponse__Output>;
  /** Leaves, as a client that goes: the router sees a reset stream. */
  leave(): void;
}

/** @param halfClose false: the upload stays open */
export function openCall(
  client: RouterServiceClient,
  header: GenerateHeader,
  ids: readonly number[],
  halfClose = true,
): OpenCall {
  const call = client.generate();
  const events: GenerateResponse__Output[] = [];
  const ended = new Promise<ServiceError | null>((resolve) => {
    call.on('data', (event: GenerateResponse__Output) => events.push(event));
    call.on('error', resolve);
    call.on('end', () => {
      resolve(null);
    });
  });
  call.write({ header: { model: MODEL, ignoreEos: true, ...header } });
  for (const part of idParts(ids)) call.write({ part });
  if (halfClose) call.end();
  return {
    events,
    ended,
    sees: async (wanted) => {
      const found = await poll(
        () => events.find(wanted),
        (event) => event !== undefined,
        60_000,
        1,
      );
      if (found === undefined) throw new Error('poll() gave nothing');
      return found;
    },
    leave: () => {
      call.cancel();
    },
  };
}

/** The last progress of prefill: what follows is the seal and the start of decode. */
export function isPrefillDone({ progress }: GenerateResponse__Output): boolean {
  const total = progress?.totalTokens ?? null;
  return total !== null && total !== '0' && progress?.processedTokens === total;
}
