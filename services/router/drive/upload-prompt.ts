import { ServingError } from '../../domain/serving-error.js';
import { settledWithin } from './redis-gap.js';
import type { PromptEncoder, PromptPart } from '../../platform/tokenizer/prompt-encoder.js';

/** Where a prompt's ids go. */
export interface PromptSink {
  /** @param waitingTokens those that are sure to follow */
  offer(ids: Uint32Array, waitingTokens: number): void;
  closeUpload(): void;
  end(error: ServingError): Promise<boolean>;
}

/**
 * Encodes parts as they come and hands their ids on. A bad part ends the session with its error; a
 * broken stream does not (the disconnect decides what happens then).
 */
export async function uploadPrompt(
  parts: AsyncIterable<PromptPart>,
  encoder: PromptEncoder,
  sink: PromptSink,
  clientGone: AbortSignal,
): Promise<void> {
  try {
    for await (const part of parts) sink.offer(await encoder.append(part), encoder.waitingTokens);
    sink.offer(await encoder.close(), 0);
    sink.closeUpload();
  } catch (error) {
    if (clientGone.aborted) return;
    await sink.end(
      error instanceof ServingError
        ? error
        : new ServingError('INTERNAL', 'internal error', {}, { cause: error }),
    );
  }
}

/**
 * The parts as they come. The clock runs only while the next part is waited for, not while one is
 * encoded.
 * @throws ServingError DEADLINE_EXCEEDED when none comes, nor the upload's end, within `idleMs`
 */
export async function* withinIdleLimit(
  parts: AsyncIterable<PromptPart>,
  idleMs: number,
): AsyncGenerator<PromptPart, void, undefined> {
  const iterator = parts[Symbol.asyncIterator]();
  for (;;) {
    const arriving = iterator.next();
    if (!(await settledWithin(idleMs, arriving))) {
      throw new ServingError(
        'DEADLINE_EXCEEDED',
        `no part of the prompt came for ${String(idleMs)} ms; send parts without such pauses, close the upload after the last one, or raise ROUTER_UPLOAD_IDLE_MS`,
      );
    }
    const next = await arriving;
    if (next.done === true) return;
    yield next.value;
  }
}
