import type { SequencedEvent } from '../../domain/session-event.js';
import { ServingError } from '../../domain/serving-error.js';
import type { CallContext } from '../../platform/rpc/call-context.js';
import type { GenerationHeader } from '../admission/generation-header.js';
import { uploadPrompt } from '../drive/upload-prompt.js';
import { PromptEncoder, type PromptPart } from '../tokenizer/prompt-encoder.js';
import type { RouterDeps } from './router-deps.js';

/** A turn whose prompt is being uploaded, and its events until it ends. */
export interface StartedTurn {
  readonly sessionId: string;
  readonly events: AsyncIterable<SequencedEvent>;
}

/**
 * Admits a turn and begins its upload, which goes on by itself. The turn's events end after its
 * `finished` or `error` event; a client that goes is reported to the driver.
 *
 * @throws ServingError refusals, before any work
 */
export async function startTurn(
  header: GenerationHeader,
  parts: AsyncIterable<PromptPart>,
  context: CallContext,
  deps: RouterDeps,
): Promise<StartedTurn> {
  const tokenizer = deps.models.tokenizer(header.model);
  const { deadlineUnixMs, traceparent } = context;
  const run = await deps.driver.open(header, { deadlineUnixMs, traceparent });
  const onGone = (): void => {
    const reason: unknown = context.signal.reason;
    run.disconnected(
      reason instanceof ServingError ? reason : new ServingError('CANCELLED', 'the client is gone'),
    );
  };
  context.signal.addEventListener('abort', onGone, { once: true });
  if (context.signal.aborted) onGone();
  const encoder = new PromptEncoder(tokenizer, run.vocabSize);
  uploadPrompt(parts, encoder, run, context.signal).catch((error: unknown) => {
    deps.log.error({ err: error, sessionId: run.sessionId }, 'upload could not be ended');
  });
  return { sessionId: run.sessionId, events: turnEvents(run.sessionId, 0, context.signal, deps) };
}

async function* turnEvents(
  sessionId: string,
  afterSequence: number,
  signal: AbortSignal,
  deps: RouterDeps,
): AsyncGenerator<SequencedEvent, void, undefined> {
  for await (const sequenced of deps.store.events.follow(sessionId, afterSequence, signal)) {
    yield sequenced;
    const { type } = sequenced.event;
    if (type === 'finished' || type === 'error') return;
  }
  signal.throwIfAborted();
}
