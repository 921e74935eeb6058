import type { CountTokensRequest__Output } from '../../../proto/gen/longshadow/router/v1/CountTokensRequest.js';
import type { CountTokensResponse } from '../../../proto/gen/longshadow/router/v1/CountTokensResponse.js';
import type { Unary } from '../../platform/rpc/unary.js';
import { PromptEncoder } from '../../platform/tokenizer/prompt-encoder.js';
import { fromWirePart } from './from-wire.js';
import type { RouterDeps } from './router-deps.js';

/** Router.CountTokens: counts exactly what Generate would run. */
export function makeCountTokens(
  deps: RouterDeps,
): Unary<CountTokensRequest__Output, CountTokensResponse> {
  return async (request, context) => {
    const tokenizer = deps.models.tokenizer(request.model);
    const encoder = new PromptEncoder(tokenizer, tokenizer.vocabSize);
    let tokens = 0;
    for (const part of request.parts) {
      context.signal.throwIfAborted();
      tokens += (await encoder.append(fromWirePart(part))).length;
    }
    tokens += (await encoder.close()).length;
    return { tokens };
  };
}
