import { ServingError } from '../../domain/serving-error.js';
import type { DrivenSession } from './driven-session.js';
import { giveBackUnused } from './keep-session.js';

/** The upload of a session's first prompt. */
export class SessionUpload {
  #ended: { resolve: () => void; reject: (error: unknown) => void } = {
    resolve: () => undefined,
    reject: () => undefined,
  };

  /** @param onFailed what was uploaded could not be written down */
  constructor(
    private readonly session: DrivenSession,
    private readonly onFailed: (error: unknown) => void,
  ) {}

  open(): void {
    const end = new Promise<void>((resolve, reject) => {
      this.#ended = { resolve, reject };
    });
    end.catch(() => undefined);
    this.session.uploadEnd = end;
  }

  /** Prompt ids, in order. @throws ServingError PROMPT_TOO_LONG past the reservation */
  offer(ids: Uint32Array, waitingTokens: number): void {
    const { signal, tokens, record } = this.session;
    signal.throwIfAborted();
    const { maxPromptTokens } = record;
    if (tokens.received + ids.length + waitingTokens > maxPromptTokens) {
      throw new ServingError(
        'PROMPT_TOO_LONG',
        `the prompt passes max_prompt_tokens (${String(maxPromptTokens)}) at this part; ask for more in the header`,
        {
          fieldViolations: [
            { field: 'max_prompt_tokens', description: 'at least the length of the prompt' },
          ],
        },
      );
    }
    tokens.append(ids);
  }

  /** The prompt is complete. @throws ServingError EMPTY_PROMPT */
  close(): void {
    const { signal, tokens } = this.session;
    signal.throwIfAborted();
    if (tokens.received === 0) {
      throw new ServingError(
        'EMPTY_PROMPT',
        'the prompt has no tokens; send at least one part with content',
      );
    }
    tokens.close();
    this.#writeDown().then(this.#ended.resolve, (error: unknown) => {
      this.#ended.reject(error);
      this.onFailed(error);
    });
  }

  /** From here on another router can take the session over. Also gives back what is not needed. */
  async #writeDown(): Promise<void> {
    const { session } = this;
    await session.surely(async () => session.tokens.keepAll());
    const receivedTokens = session.tokens.received;
    await session.change(({ state, turn }) => ({
      state: state === 'uploading' ? 'prefilling' : state,
      turn: { ...turn, endToken: receivedTokens },
      receivedTokens,
      uploadClosed: true,
    }));
    await giveBackUnused(session);
  }
}
