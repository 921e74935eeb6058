import { ServingError } from '../../domain/serving-error.js';
import type { PromptEncoder, PromptPart } from '../tokenizer/prompt-encoder.js';

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
