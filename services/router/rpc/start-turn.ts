import type { SequencedEvent } from '../../domain/session-event.js';
import { ServingError } from '../../domain/serving-error.js';
import type { CallContext } from '../../platform/rpc/call-context.js';
import type { GenerationHeader } from '../admission/generation-header.js';
import { collectTurn } from '../drive/collect-turn.js';
import type { SessionRun } from '../drive/session-run.js';
import { unlessAborted } from '../drive/redis-gap.js';
import { uploadPrompt, withinIdleLimit } from '../drive/upload-prompt.js';
import { PromptEncoder, type PromptPart } from '../tokenizer/prompt-encoder.js';
import type { RouterDeps } from './router-deps.js';

/** A turn whose prompt is being uploaded, and its events until it ends. */
export interface StartedTurn {
  readonly sessionId: string;
  readonly events: AsyncIterable<SequencedEvent>;
}

/**
 * Admits a turn: of a new session, whose upload then goes on by itself, or of a kept one. The turn's
 * events end after its `finished` or `error` event; a client that goes is reported to the driver.
 *
 * @throws ServingError refusals, before any work
 */
export async function startTurn(
  header: GenerationHeader,
  parts: AsyncIterable<PromptPart>,
  context: CallContext,
  deps: RouterDeps,
): Promise<StartedTurn> {
  const { continueSessionId } = header;
  const arriving = withinIdleLimit(parts, deps.uploadIdleMs);
  return continueSessionId === null
    ? startSession(header, arriving, context, deps)
    : continueSession(header, continueSessionId, arriving, context, deps);
}

async function startSession(
  header: GenerationHeader,
  parts: AsyncIterable<PromptPart>,
  context: CallContext,
  deps: RouterDeps,
): Promise<StartedTurn> {
  const tokenizer = deps.models.tokenizer(header.model);
  const run = await deps.driver.open(header, context);
  const events = turnEvents(run, 0, context, deps);
  const encoder = new PromptEncoder(tokenizer, run.vocabSize);
  uploadPrompt(parts, encoder, run, context.signal).catch((error: unknown) => {
    deps.log.error({ err: error, sessionId: run.sessionId }, 'upload could not be ended');
  });
  return { sessionId: run.sessionId, events };
}

/** A turn is short: it is collected first, and a bad one leaves the session as it was. */
async function continueSession(
  header: GenerationHeader,
  sessionId: string,
  parts: AsyncIterable<PromptPart>,
  context: CallContext,
  deps: RouterDeps,
): Promise<StartedTurn> {
  const tokenizer = deps.models.tokenizer(header.model);
  const { run, kept, checked } = await deps.driver.resume(header, sessionId, context);
  const encoder = new PromptEncoder(tokenizer, run.vocabSize, kept);
  const tokenIds = await collectTurn(parts, encoder);
  context.signal.throwIfAborted();
  const afterSequence = await run.nextTurn(tokenIds, checked);
  return { sessionId, events: turnEvents(run, afterSequence, context, deps) };
}

/** Also tells the driver when the client goes before the turn has ended. */
function turnEvents(
  run: SessionRun,
  afterSequence: number,
  context: CallContext,
  deps: RouterDeps,
): AsyncIterable<SequencedEvent> {
  const { signal } = context;
  const onGone = (): void => {
    const reason: unknown = signal.reason;
    run.disconnected(
      reason instanceof ServingError ? reason : new ServingError('CANCELLED', 'the client is gone'),
    );
  };
  signal.addEventListener('abort', onGone, { once: true });
  if (signal.aborted) onGone();
  const over = AbortSignal.any([signal, run.untold]);
  const follow = async function* (): AsyncGenerator<SequencedEvent, void, undefined> {
    const events = deps.store.events.follow(run.sessionId, afterSequence, over);
    const iterator = events[Symbol.asyncIterator]();
    for (;;) {
      // An event that Redis is asked for does not hold up the end.
      const next = await unlessAborted(over, async () => iterator.next());
      if (next.done === true) break;
      const { type } = next.value.event;
      const isLast = type === 'finished' || type === 'error';
      if (isLast) signal.removeEventListener('abort', onGone);
      yield next.value;
      if (isLast) break;
    }
    await iterator.return?.();
    over.throwIfAborted();
  };
  return follow();
}
