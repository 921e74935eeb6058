import { bidiStream } from '../../platform/rpc/bidi-stream.js';
import type { AdapterOptions } from '../../platform/rpc/adapter-options.js';
import { type HostedService, loadService } from '../../platform/rpc/load-service.js';
import { serverStream } from '../../platform/rpc/server-stream.js';
import { unary } from '../../platform/rpc/unary.js';
import { makeCancelSession } from './cancel-session.js';
import { makeCountTokens } from './count-tokens.js';
import { makeFork } from './fork.js';
import { makeGenerate } from './generate.js';
import { makeGenerateText } from './generate-text.js';
import { makeGetStatus } from './get-status.js';
import { makeListModels } from './list-models.js';
import { makeReleaseSession } from './release-session.js';
import { makeResume } from './resume.js';
import type { RouterDeps } from './router-deps.js';

/** RouterService with its handlers. */
export function makeRouterService(deps: RouterDeps, options: AdapterOptions): HostedService {
  return {
    definition: loadService('router'),
    implementation: {
      Generate: bidiStream(makeGenerate(deps), options),
      GenerateText: unary(makeGenerateText(deps), options),
      Resume: serverStream(makeResume(deps), options),
      Fork: unary(makeFork(deps), options),
      CancelSession: unary(makeCancelSession(deps), options),
      ReleaseSession: unary(makeReleaseSession(deps), options),
      ListModels: unary(makeListModels(deps), options),
      CountTokens: unary(makeCountTokens(deps), options),
      GetStatus: unary(makeGetStatus(deps), options),
    },
  };
}
