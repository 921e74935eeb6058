import type { Tokenizer } from 'tokenizers';
import { ServingError } from '../../domain/serving-error.js';
import { type IsSafeCut, lastSafeCut } from './cut-finder.js';

/** What encodes plain text: no spelling in it becomes a special token. */
export interface TextEncodings {
  /** For the first piece of a text, with the prefix that the tokenizer gives a text. */
  readonly first: Tokenizer;
  /** For the pieces after it. */
  readonly rest: Tokenizer;
  readonly isSafeCut: IsSafeCut;
}

/** Pieces are encoded when this much text waits (UTF-16 units), and at the text's end. */
const PIECE_UNITS = 16_384;
/** Longest text without a safe cut (UTF-16 units): what one session may hold back. */
export const MAX_UNBROKEN_UNITS = 4_194_304;

/**
 * Encodes one text that arrives in pieces; any split of it gives the ids of the whole.
 *
 * Text is encoded up to its last safe cut, so no id ever changes and every character is looked at
 * and encoded once. Encoding runs outside the event loop, in pieces of bounded size.
 */
export class TextEncoder {
  /** Text known to hold no safe cut, in pieces, so that a long unbroken text is never copied. */
  #unbroken: string[] = [];
  #unbrokenUnits = 0;
  /** Text that has not been searched for cuts. */
  #fresh = '';
  #isFirst = true;

  constructor(private readonly encodings: TextEncodings) {}

  /** Ids that are certain now. @throws ServingError BAD_REQUEST on too long an unbroken text */
  async append(text: string): Promise<Uint32Array> {
    const ids: Uint32Array[] = [];
    for (let at = 0; at < text.length; at += PIECE_UNITS) {
      this.#fresh += text.slice(at, at + PIECE_UNITS);
      if (this.#fresh.length < PIECE_UNITS) continue;
      const piece = this.#takeToLastCut();
      if (piece !== '') ids.push(await this.#encode(piece));
    }
    return concatIds(ids);
  }

  /** Ids of what was held back. The encoder must not be used after. */
  async close(): Promise<Uint32Array> {
    return this.#encode(this.#unbroken.join('') + this.#fresh);
  }

  /** Takes the text up to its last safe cut; '' if there is none yet. */
  #takeToLastCut(): string {
    const before = this.#unbroken.at(-1)?.slice(-2) ?? '';
    const probe = before + this.#fresh;
    const cut = lastSafeCut(probe, before.length, this.encodings.isSafeCut) - before.length;
    if (cut < 0) {
      this.#holdBack();
      return '';
    }
    const piece = this.#unbroken.join('') + this.#fresh.slice(0, cut);
    this.#unbroken = [];
    this.#unbrokenUnits = 0;
    this.#fresh = this.#fresh.slice(cut);
    return piece;
  }

  #holdBack(): void {
    this.#unbroken.push(this.#fresh);
    this.#unbrokenUnits += this.#fresh.length;
    this.#fresh = '';
    if (this.#unbrokenUnits <= MAX_UNBROKEN_UNITS) return;
    throw new ServingError(
      'BAD_REQUEST',
      `text runs for more than ${String(MAX_UNBROKEN_UNITS)} characters without a place to break it; ` +
        'break it with a space or line break, or send token_ids',
    );
  }

  async #encode(piece: string): Promise<Uint32Array> {
    if (piece === '') return new Uint32Array(0);
    const tokenizer = this.#isFirst ? this.encodings.first : this.encodings.rest;
    this.#isFirst = false;
    const encoding = await tokenizer.encode(piece, null, { addSpecialTokens: false });
    return Uint32Array.from(encoding.getIds());
  }
}

export function concatIds(pieces: readonly Uint32Array[]): Uint32Array {
  const [only] = pieces;
  if (only !== undefined && pieces.length === 1) return only;
  const ids = new Uint32Array(pieces.reduce((total, piece) => total + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    ids.set(piece, at);
    at += piece.length;
  }
  return ids;
}
