import type { GenerateRequest__Output } from '../../../proto/gen/longshadow/router/v1/GenerateRequest.js';
import type { GenerateResponse } from '../../../proto/gen/longshadow/router/v1/GenerateResponse.js';
import { ServingError } from '../../domain/serving-error.js';
import type { BidiStream } from '../../platform/rpc/bidi-stream.js';
import type { GenerationHeader } from '../admission/generation-header.js';
import type { PromptPart } from '../../platform/tokenizer/prompt-encoder.js';
import { fromWireHeader, fromWirePart } from './from-wire.js';
import { errorOf } from './relay-events.js';
import type { RouterDeps } from './router-deps.js';
import { startTurn } from './start-turn.js';
import { toWireEvent } from './to-wire.js';

/**
 * Router.Generate: the header opens a session, parts are its prompt, and the session's events are
 * the answer. An error event is followed by its gRPC status.
 */
export function makeGenerate(
  deps: RouterDeps,
): BidiStream<GenerateRequest__Output, GenerateResponse> {
  return async function* generate(requests, context) {
    const messages = requests[Symbol.asyncIterator]();
    const header = await readHeader(messages);
    const { sessionId, events } = await startTurn(header, readParts(messages), context, deps);
    for await (const sequenced of events) {
      yield toWireEvent(sessionId, sequenced);
      const { event } = sequenced;
      if (event.type === 'error') throw errorOf(event);
    }
  };
}

async function readHeader(
  messages: AsyncIterator<GenerateRequest__Output>,
): Promise<GenerationHeader> {
  const first = await messages.next();
  const header = first.done === true ? null : (first.value.header ?? null);
  if (header !== null) return fromWireHeader(header);
  throw new ServingError('BAD_REQUEST', 'the first request must be the header', {
    fieldViolations: [{ field: 'header', description: 'must come first' }],
  });
}

async function* readParts(
  messages: AsyncIterator<GenerateRequest__Output>,
): AsyncGenerator<PromptPart, void, undefined> {
  for (;;) {
    const next = await messages.next();
    if (next.done === true) return;
    const { part, header } = next.value;
    if (header !== undefined && header !== null) {
      throw new ServingError('BAD_REQUEST', 'a second header came; send one header, then parts');
    }
    if (part === undefined || part === null) {
      throw new ServingError('BAD_REQUEST', 'a request must hold a header or a part');
    }
    yield fromWirePart(part);
  }
}
