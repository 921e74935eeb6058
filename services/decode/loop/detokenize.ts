import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Tokenizer } from 'tokenizers';
import { z } from 'zod';
import { ServingError } from '../../domain/serving-error.js';

const REPLACEMENT = '\uFFFD';
/** A SentencePiece byte token: its run is valid or not as a whole, so it stays open. */
const BYTE_TOKEN = /^<0x[0-9A-F]{2}>$/;

const tokenizerFile = z.object({
  added_tokens: z
    .array(z.object({ id: z.number().int(), special: z.boolean().default(false) }))
    .default([]),
});

/** The half of a tokenizer that turns ids into text; synchronous, a few microseconds a call. */
export interface TokenDecoder {
  /** The token's piece; null for a special or unknown id, which has no text. */
  piece(tokenId: number): string | null;
  /** Text of consecutive pieces. */
  join(pieces: string[]): string;
}

/** @throws ServingError MODEL_INVALID if the folder has no readable tokenizer.json */
export async function loadTokenDecoder(modelDirectory: string): Promise<TokenDecoder> {
  const path = join(modelDirectory, 'tokenizer.json');
  try {
    const text = await readFile(path, 'utf8');
    const { added_tokens: addedTokens } = tokenizerFile.parse(JSON.parse(text));
    return makeTokenDecoder(
      Tokenizer.fromString(text),
      new Set(addedTokens.filter((token) => token.special).map((token) => token.id)),
    );
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new ServingError('MODEL_INVALID', `cannot read ${path}: ${reason}`, {}, { cause });
  }
}

function makeTokenDecoder(tokenizer: Tokenizer, specialIds: ReadonlySet<number>): TokenDecoder {
  const decoder = tokenizer.getDecoder();
  return {
    piece: (tokenId) => (specialIds.has(tokenId) ? null : tokenizer.idToToken(tokenId)),
    join: (pieces) => decoder?.decode(pieces) ?? pieces.join(' '),
  };
}

/**
 * Turns one answer's ids into text, token by token. What it returned so far plus flush() equals
 * the text of all ids decoded at once with special tokens skipped.
 *
 * A window of pieces is decoded twice, without and with the pieces that are still open; the
 * difference is their text. The window begins with pieces already returned, because decoders treat
 * the first piece of a text specially (a stripped space). Text that ends inside a character, seen
 * as U+FFFD, stays open, and so does a run of byte tokens, whose validity depends on its end.
 */
export class Detokenizer {
  #context: string[] = [];
  #contextText = '';
  #open: string[] = [];

  constructor(private readonly decoder: TokenDecoder) {}

  /** Text that became certain with this token; '' while a character is open. */
  push(tokenId: number): string {
    const piece = this.decoder.piece(tokenId);
    if (piece === null) return '';
    this.#open.push(piece);
    if (BYTE_TOKEN.test(piece)) return '';
    const text = this.decoder.join([...this.#context, ...this.#open]);
    if (text.length <= this.#contextText.length || text.endsWith(REPLACEMENT)) return '';
    return this.#close(text);
  }

  /** The text that was held back, as it is. */
  flush(): string {
    if (this.#open.length === 0) return '';
    return this.#close(this.decoder.join([...this.#context, ...this.#open]));
  }

  #close(text: string): string {
    const added = text.slice(this.#contextText.length);
    if (added === '') return '';
    this.#context = this.#open;
    this.#contextText = this.decoder.join(this.#open);
    this.#open = [];
    return added;
  }
}
