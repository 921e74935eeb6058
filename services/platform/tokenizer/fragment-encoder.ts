import { ServingError } from '../../domain/serving-error.js';
import type { ModelTokenizer } from './model-tokenizer.js';
import type { AddedToken } from './tokenizer-json.js';
import { concatIds, TextEncoder } from './text-encoder.js';

/** What a turn on a kept session follows. */
export interface Continuation {
  /** The last generated token; null if none was. */
  readonly lastTokenId: number | null;
}

/**
 * Encodes a prompt made of special tokens and text between them. Text that touches is one text:
 * merges go across the border of template and content as they do in a one-shot encoding.
 */
export class FragmentEncoder {
  #text: TextEncoder | null = null;
  #atStart: boolean;
  /** A generated token that is in the cache already: the template may spell it once more. */
  #precedingTokenId: number | null;
  /** The last token swallows the white space after it (`rstrip`). */
  #stripping = false;

  /** @param continuation what a later turn follows; null for a prompt */
  constructor(
    private readonly tokenizer: ModelTokenizer,
    continuation: Continuation | null,
  ) {
    this.#atStart = continuation === null;
    this.#precedingTokenId = continuation?.lastTokenId ?? null;
  }

  /** Text in which no special token is recognised. Returns ids that are certain now. */
  async appendText(text: string): Promise<Uint32Array> {
    const kept = this.#stripping ? text.trimStart() : text;
    if (kept === '') return new Uint32Array(0);
    this.#stripping = false;
    this.#precedingTokenId = null;
    this.#text ??= new TextEncoder(
      this.#atStart ? this.tokenizer.encodings : this.tokenizer.laterEncodings,
    );
    this.#atStart = false;
    return this.#text.append(kept);
  }

  async appendToken(token: AddedToken): Promise<Uint32Array> {
    if (token.lstrip) {
      // It would reach back into text whose ids are already given out.
      throw new ServingError(
        'CHAT_TEMPLATE_FAILED',
        `the chat template uses ${token.content}, which strips the text before it; send token_ids`,
      );
    }
    const before = await this.flush();
    this.#atStart = false;
    this.#stripping = token.rstrip;
    const isRepeated = this.#precedingTokenId === token.id;
    this.#precedingTokenId = null;
    return isRepeated ? before : concatIds([before, Uint32Array.of(token.id)]);
  }

  /** Template text: added tokens spelled in it are tokens. */
  async appendTemplate(text: string): Promise<Uint32Array> {
    const ids: Uint32Array[] = [];
    for (const piece of this.tokenizer.specialTokens.split(text)) {
      ids.push(
        piece.kind === 'text'
          ? await this.appendText(piece.text)
          : await this.appendToken(piece.token),
      );
    }
    return concatIds(ids);
  }

  /** Ends the text: what follows is encoded on its own. */
  async flush(): Promise<Uint32Array> {
    const text = this.#text;
    this.#text = null;
    return text === null ? new Uint32Array(0) : text.close();
  }
}
