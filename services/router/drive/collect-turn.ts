import { ServingError } from '../../domain/serving-error.js';
import { MAX_TURN_TOKENS } from '../../domain/turn.js';
import type { PromptEncoder, PromptPart } from '../tokenizer/prompt-encoder.js';

/**
 * Encodes all parts of a turn on a kept session.
 * @throws ServingError EMPTY_PROMPT; PROMPT_TOO_LONG past 4,096 tokens; the encoder's refusals
 */
export async function collectTurn(
  parts: AsyncIterable<PromptPart>,
  encoder: PromptEncoder,
): Promise<number[]> {
  const ids: number[] = [];
  const take = (more: Uint32Array): void => {
    for (const id of more) ids.push(id);
    if (ids.length + encoder.waitingTokens <= MAX_TURN_TOKENS) return;
    throw new ServingError(
      'PROMPT_TOO_LONG',
      `a turn on a kept session may have at most ${String(MAX_TURN_TOKENS)} tokens; shorten it, or send the whole conversation as a new session`,
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
