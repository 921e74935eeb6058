import { ServingError } from '../../domain/serving-error.js';
import type { PromptEncoder, PromptPart } from '../../platform/tokenizer/prompt-encoder.js';

/**
 * Encodes all parts of a turn on a kept session.
 * @param mostTokens positions that the model has left
 * @throws ServingError EMPTY_PROMPT; PROMPT_TOO_LONG past mostTokens; the encoder's refusals
 */
export async function collectTurn(
  parts: AsyncIterable<PromptPart>,
  encoder: PromptEncoder,
  mostTokens: number,
): Promise<number[]> {
  const ids: number[] = [];
  const take = (more: Uint32Array): void => {
    for (const id of more) ids.push(id);
    if (ids.length + encoder.waitingTokens <= mostTokens) return;
    throw new ServingError(
      'PROMPT_TOO_LONG',
      `the model has positions for ${String(mostTokens)} more tokens in this session; shorten the turn`,
    );
  };
  for await (const part of parts) take(await encoder.append(part));
  take(await encoder.close());
  if (ids.length > 0) return ids;
  throw new ServingError(
    'EMPTY_PROMPT',
    'the turn has no tokens; send at least one part with content',
  );
}
