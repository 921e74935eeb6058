import { ServingError } from '../../domain/serving-error.js';
import { ChatEncoder } from './chat-encoder.js';
import { type Continuation, FragmentEncoder } from './fragment-encoder.js';
import type { ModelTokenizer } from './model-tokenizer.js';
import { concatIds } from './text-encoder.js';
import { Utf8Stream } from './utf8-stream.js';

/** A piece of a prompt as it arrives. */
export type PromptPart =
  | { readonly kind: 'text'; readonly bytes: Uint8Array }
  | { readonly kind: 'message'; readonly role: string; readonly content: Uint8Array }
  | { readonly kind: 'tokenIds'; readonly ids: readonly number[] };

type Mode =
  | { readonly kind: 'empty' }
  | { readonly kind: 'raw'; readonly fragments: FragmentEncoder; utf8: Utf8Stream }
  | { readonly kind: 'chat'; readonly chat: ChatEncoder };

/**
 * Turns a prompt's parts into ids, giving out each id as soon as nothing that follows can change it.
 * Raw text and ids may be mixed: each run of text is encoded on its own. A prompt that begins with
 * text gets the tokenizer's prefix; ids and messages are taken as they are.
 */
export class PromptEncoder {
  #mode: Mode = { kind: 'empty' };

  /**
   * @param vocabSize ids of the model are below it
   * @param continuation what a later turn follows; null for a prompt
   */
  constructor(
    private readonly tokenizer: ModelTokenizer,
    private readonly vocabSize: number,
    private readonly continuation: Continuation | null = null,
  ) {}

  /**
   * Ids that are certain now.
   * @throws ServingError INVALID_UTF8, TOKEN_ID_OUT_OF_RANGE, BAD_REQUEST or CHAT_TEMPLATE_FAILED
   */
  async append(part: PromptPart): Promise<Uint32Array> {
    switch (part.kind) {
      case 'text':
        return this.#appendText(part.bytes);
      case 'message':
        return this.#appendMessage(part.role, part.content);
      case 'tokenIds':
        return this.#appendIds(part.ids);
    }
  }

  /** Tokens that parts so far will still give, at least. */
  get waitingTokens(): number {
    return this.#mode.kind === 'chat' ? this.#mode.chat.waitingTokens : 0;
  }

  /** The last ids. */
  async close(): Promise<Uint32Array> {
    switch (this.#mode.kind) {
      case 'empty':
        return new Uint32Array(0);
      case 'chat':
        return this.#mode.chat.close();
      case 'raw':
        this.#mode.utf8.close();
        return this.#mode.fragments.flush();
    }
  }

  async #appendText(bytes: Uint8Array): Promise<Uint32Array> {
    if (this.#mode.kind === 'chat') return this.#mode.chat.extendMessage(bytes);
    if (bytes.length === 0) return new Uint32Array(0);
    const isStart = this.#mode.kind === 'empty' && this.continuation === null;
    const prefix = isStart ? this.tokenizer.prefixIds : [];
    const raw = this.#startRaw();
    return concatIds([
      Uint32Array.from(prefix),
      await raw.fragments.appendText(raw.utf8.append(bytes)),
    ]);
  }

  async #appendMessage(role: string, content: Uint8Array): Promise<Uint32Array> {
    if (this.#mode.kind === 'raw') {
      throw new ServingError(
        'BAD_REQUEST',
        'a message follows raw text or token ids; send the whole prompt as messages, or none of it',
      );
    }
    if (this.#mode.kind === 'empty') {
      this.#mode = { kind: 'chat', chat: new ChatEncoder(this.tokenizer, this.continuation) };
    }
    return this.#mode.chat.startMessage(role, content);
  }

  async #appendIds(ids: readonly number[]): Promise<Uint32Array> {
    if (this.#mode.kind === 'chat') {
      throw new ServingError(
        'BAD_REQUEST',
        'token ids follow a message; send the whole prompt as messages, or none of it',
      );
    }
    const wrong = ids.findIndex((id) => id >= this.vocabSize);
    if (wrong >= 0) {
      throw new ServingError(
        'TOKEN_ID_OUT_OF_RANGE',
        `token id ${String(ids[wrong])} is not below the vocabulary size ${String(this.vocabSize)}`,
        {
          fieldViolations: [
            {
              field: `part.token_ids.ids[${String(wrong)}]`,
              description: `below ${String(this.vocabSize)}`,
            },
          ],
        },
      );
    }
    const raw = this.#startRaw();
    raw.utf8.close();
    const before = await raw.fragments.flush();
    raw.utf8 = new Utf8Stream();
    return concatIds([before, Uint32Array.from(ids)]);
  }

  #startRaw(): Extract<Mode, { kind: 'raw' }> {
    if (this.#mode.kind === 'raw') return this.#mode;
    const raw: Mode = {
      kind: 'raw',
      fragments: new FragmentEncoder(this.tokenizer, this.continuation),
      utf8: new Utf8Stream(),
    };
    this.#mode = raw;
    return raw;
  }
}
