import type { AddedToken } from './tokenizer-json.js';

/** A piece of template text: plain text, or one added token. */
export type TemplatePiece =
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'token'; readonly token: AddedToken };

/** Splits template text at the added tokens spelled in it: leftmost first, then longest. */
export class SpecialTokens {
  readonly #byContent: ReadonlyMap<string, AddedToken>;
  readonly #pattern: RegExp | null;

  constructor(tokens: readonly AddedToken[]) {
    this.#byContent = new Map(tokens.map((token) => [token.content, token]));
    const longestFirst = [...this.#byContent.keys()].sort((a, b) => b.length - a.length);
    this.#pattern =
      longestFirst.length === 0 ? null : new RegExp(`(${longestFirst.map(escape).join('|')})`, 'u');
  }

  split(text: string): TemplatePiece[] {
    const parts = this.#pattern === null ? [text] : text.split(this.#pattern);
    return parts
      .filter((part) => part !== '')
      .map((part) => {
        const token = this.#byContent.get(part);
        return token === undefined ? { kind: 'text', text: part } : { kind: 'token', token };
      });
  }
}

function escape(text: string): string {
  return text.replace(/[\\^$.*+?()[\]{}|/]/gu, '\\$&');
}
