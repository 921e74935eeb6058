import type { GenerateTextRequest__Output } from '../../../proto/gen/longshadow/router/v1/GenerateTextRequest.js';
import type { GenerateTextResponse } from '../../../proto/gen/longshadow/router/v1/GenerateTextResponse.js';
import type { FinishedEvent, PromptLogprob, TokenEvent } from '../../domain/session-event.js';
import { ServingError } from '../../domain/serving-error.js';
import type { Unary } from '../../platform/rpc/unary.js';
import { fromWireHeader, fromWirePart } from './from-wire.js';
import { errorOf } from './relay-events.js';
import type { RouterDeps } from './router-deps.js';
import { startTurn } from './start-turn.js';
import { toWireFinished, toWireLogprob, toWireToken } from './to-wire.js';

/** Router.GenerateText: Generate in one call. */
export function makeGenerateText(
  deps: RouterDeps,
): Unary<GenerateTextRequest__Output, GenerateTextResponse> {
  return async (request, context) => {
    if (request.header === null) {
      throw new ServingError('BAD_REQUEST', 'header is missing', {
        fieldViolations: [{ field: 'header', description: 'must be set' }],
      });
    }
    const header = fromWireHeader(request.header);
    const parts = request.parts.map(fromWirePart);
    const { sessionId, events } = await startTurn(header, inOrder(parts), context, deps);
    const tokens: TokenEvent[] = [];
    const logprobs: PromptLogprob[] = [];
    let finished: FinishedEvent | null = null;
    for await (const { event } of events) {
      if (event.type === 'error') throw errorOf(event);
      if (event.type === 'token') tokens.push(event);
      if (event.type === 'progress') logprobs.push(...event.promptLogprobs);
      if (event.type === 'finished') finished = event;
    }
    if (finished === null) throw new ServingError('INTERNAL', 'the turn ended without its result');
    return {
      sessionId,
      text: tokens.map(({ text }) => text).join('') + finished.text,
      tokens: tokens.map(toWireToken),
      promptLogprobs: logprobs.sort((a, b) => a.position - b.position).map(toWireLogprob),
      finished: toWireFinished(finished),
    };
  };
}

// eslint-disable-next-line @typescript-eslint/require-await -- an array as the stream that it stands for
async function* inOrder<T>(values: readonly T[]): AsyncGenerator<T, void, undefined> {
  yield* values;
}
