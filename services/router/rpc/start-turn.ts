import type { SequencedEvent } from '../../domain/session-event.js';
import type { CallContext } from '../../platform/rpc/call-context.js';
import type { GenerationHeader } from '../admission/generation-header.js';
import { withCallersTenant } from '../auth/header-tenant.js';
import { requireOwnSession } from '../auth/session-owner.js';
import { collectTurn } from '../drive/collect-turn.js';
import type { SessionRun } from '../drive/session-run.js';
import { uploadPrompt, withinIdleLimit } from '../drive/upload-prompt.js';
import { PromptEncoder, type PromptPart } from '../../platform/tokenizer/prompt-encoder.js';
import { relayEvents } from './relay-events.js';
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
  const owned = withCallersTenant(header, context.tenant);
  const { continueSessionId } = owned;
  const arriving = withinIdleLimit(parts, deps.uploadIdleMs);
  if (continueSessionId === null) return startSession(owned, arriving, context, deps);
  const { records } = deps.store;
  await requireOwnSession(continueSessionId, context.tenant, records, 'continue_session_id');
  return continueSession(owned, continueSessionId, arriving, context, deps);
}

async function startSession(
  header: GenerationHeader,
  parts: AsyncIterable<PromptPart>,
  context: CallContext,
  deps: RouterDeps,
): Promise<StartedTurn> {
  const tokenizer = deps.models.tokenizer(header.model);
  const { run, model } = await deps.driver.open(header, context);
  const events = turnEvents(run, 0, context, deps);
  const encoder = new PromptEncoder(tokenizer, model.vocabSize);
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
  const { run, kept, checked, model } = await deps.driver.continueKept(header, sessionId, context);
  const encoder = new PromptEncoder(tokenizer, model.vocabSize, kept);
  const tokenIds = await collectTurn(parts, encoder, model.maxPositions - kept.tokens);
  context.signal.throwIfAborted();
  const afterSequence = await run.nextTurn(tokenIds, checked, kept);
  return { sessionId, events: turnEvents(run, afterSequence, context, deps) };
}

function turnEvents(
  run: SessionRun,
  afterSequence: number,
  context: CallContext,
  deps: RouterDeps,
): AsyncIterable<SequencedEvent> {
  const { sessionId, untold } = run;
  return relayEvents(
    {
      ...{ sessionId, afterSequence, untold },
      client: context.signal,
      isLast: async ({ event }) =>
        Promise.resolve(event.type === 'finished' || event.type === 'error'),
      onClientGone: (reason) => {
        run.disconnected(reason);
      },
    },
    deps,
  );
}
