import type { handleUnaryCall } from '@grpc/grpc-js';
import type { RouterServiceHandlers } from '../../proto/gen/longshadow/router/v1/RouterService.js';
import type { GenerateRequest__Output } from '../../proto/gen/longshadow/router/v1/GenerateRequest.js';
import type { GenerateResponse } from '../../proto/gen/longshadow/router/v1/GenerateResponse.js';
import type { GetStatusRequest__Output } from '../../proto/gen/longshadow/router/v1/GetStatusRequest.js';
import type { GetStatusResponse } from '../../proto/gen/longshadow/router/v1/GetStatusResponse.js';
import type { ListModelsRequest__Output } from '../../proto/gen/longshadow/router/v1/ListModelsRequest.js';
import type { ListModelsResponse } from '../../proto/gen/longshadow/router/v1/ListModelsResponse.js';
import type { ResumeRequest__Output } from '../../proto/gen/longshadow/router/v1/ResumeRequest.js';
import type { ResumeResponse } from '../../proto/gen/longshadow/router/v1/ResumeResponse.js';
import { makeLog } from '../../services/platform/log.js';
import { makeMetrics } from '../../services/platform/metrics.js';
import { bidiStream, type BidiStream } from '../../services/platform/rpc/bidi-stream.js';
import { loadService, type HostedService } from '../../services/platform/rpc/load-service.js';
import { serverStream, type ServerStream } from '../../services/platform/rpc/server-stream.js';
import { unary, type Unary } from '../../services/platform/rpc/unary.js';

export const log = makeLog('test', 'silent');
export const metrics = makeMetrics('test');
const options = { log, metrics };

export interface RouterBehaviour {
  readonly generate?: BidiStream<GenerateRequest__Output, GenerateResponse>;
  readonly resume?: ServerStream<ResumeRequest__Output, ResumeResponse>;
  readonly getStatus?: Unary<GetStatusRequest__Output, GetStatusResponse>;
  readonly listModels?: Unary<ListModelsRequest__Output, ListModelsResponse>;
}

/** The router's service with handlers of a test's choice, for tests of the RPC layer itself. */
export function hostRouter(behaviour: RouterBehaviour): HostedService {
  const empty = <Request, Response extends object>(): handleUnaryCall<Request, Response> =>
    unary(async () => Promise.resolve({} as Response), options);
  const echo: BidiStream<GenerateRequest__Output, GenerateResponse> = async function* (requests) {
    let sequence = 0;
    for await (const _request of requests) {
      sequence += 1;
      yield { sequence };
    }
  };
  const nothing: ServerStream<ResumeRequest__Output, ResumeResponse> = async function* () {
    // no event
  };
  const implementation: RouterServiceHandlers = {
    Generate: bidiStream(behaviour.generate ?? echo, options),
    GetStatus: unary(behaviour.getStatus ?? (async () => Promise.resolve({})), options),
    ListModels: unary(behaviour.listModels ?? (async () => Promise.resolve({})), options),
    GenerateText: empty(),
    Resume: serverStream(behaviour.resume ?? nothing, options),
    Fork: empty(),
    CancelSession: empty(),
    ReleaseSession: empty(),
    CountTokens: empty(),
  };
  return { definition: loadService('router'), implementation };
}
