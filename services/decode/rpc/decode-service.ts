import type { DecodeServiceHandlers } from '../../../proto/gen/longshadow/decode/v1/DecodeService.js';
import { toServingError } from '../../engine-host/native-error-code.js';
import type { HostStatus } from '../../engine-host/host-status.js';
import type { AdapterOptions } from '../../platform/rpc/adapter-options.js';
import { unary } from '../../platform/rpc/unary.js';
import type { DecodeSessions } from '../sessions/decode-sessions.js';
import { toAppendTurn, toSessionId, toStartSession } from './convert.js';

/** What the handlers delegate to. */
export interface DecodeOperations {
  readonly sessions: Pick<DecodeSessions, 'start' | 'append' | 'release'>;
  readonly status: () => HostStatus & {
    readonly sessions: number;
    readonly decodeCalls: number;
    readonly decodeSteps: number;
  };
}

/** The handlers of longshadow.decode.v1.DecodeService. */
export function decodeService(
  { sessions, status }: DecodeOperations,
  options: AdapterOptions,
): DecodeServiceHandlers {
  return {
    StartSession: unary(async (request) => {
      const batchSessions = await guarded(async () => sessions.start(toStartSession(request)));
      return { batchSessions };
    }, options),
    AppendTurn: unary(async (request) => {
      const beginToken = await guarded(() => sessions.append(toAppendTurn(request)));
      return { beginToken };
    }, options),
    ReleaseSession: unary(async (request) => {
      const freedBytes = await guarded(async () => sessions.release(toSessionId(request)));
      return { freedBytes };
    }, options),
    GetStatus: unary(() => Promise.resolve(status()), options),
  };
}

async function guarded<T>(work: () => T | Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw toServingError(error);
  }
}
