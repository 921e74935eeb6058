import { ServingError } from '../../domain/serving-error.js';
import { type ChatTemplate, type RenderedPiece, trimContent } from './chat-template.js';
import { type Continuation, FragmentEncoder } from './fragment-encoder.js';
import type { ModelTokenizer } from './model-tokenizer.js';
import { concatIds } from './text-encoder.js';
import { Utf8Stream } from './utf8-stream.js';

/** A message's content is encoded as it comes once it is longer than this (UTF-16 units). */
const STREAM_FROM_UNITS = 4_096;
/** Roles stand in the template's own text, where special tokens are recognised. */
const ROLE_PATTERN = /^[A-Za-z][A-Za-z0-9_-]{0,63}$/;

interface Message {
  readonly role: string;
  readonly contents: string[];
  units: number;
  readonly utf8: Utf8Stream;
}

/**
 * Encodes a conversation whose messages arrive in parts.
 *
 * Short conversations are rendered at the end. When the last message grows long, the rendering up to
 * its content is committed and the content is encoded as it comes; at the end the whole rendering
 * must begin with what was committed. Contents never yield special tokens: the template is rendered
 * with marks in their place.
 */
export class ChatEncoder {
  readonly #template: ChatTemplate;
  readonly #fragments: FragmentEncoder;
  readonly #messages: Message[] = [];
  /** Pieces whose ids are given out; the last one may still be growing. */
  #committed: RenderedPiece[] = [];
  /** The growing content: white space that a trimming template may drop, or text not yet encoded. */
  #streaming: { readonly piece: ContentPiece; held: string; started: boolean } | null = null;

  /** @param continuation what a later turn follows; null for a prompt */
  constructor(tokenizer: ModelTokenizer, continuation: Continuation | null) {
    if (tokenizer.chatTemplate === null) {
      throw new ServingError(
        'CHAT_TEMPLATE_FAILED',
        `model ${tokenizer.name} has no chat template; send the prompt as text or token_ids`,
      );
    }
    this.#template = tokenizer.chatTemplate;
    this.#fragments = new FragmentEncoder(tokenizer, continuation);
    if (continuation !== null) this.#continueAnswer();
  }

  /**
   * A later turn follows an answer whose ids are in the cache. A question and an answer stand for
   * the conversation so far: what the template writes up to the answer's end counts as committed.
   */
  #continueAnswer(): void {
    for (const role of ['user', 'assistant']) {
      this.#messages.push({ role, contents: [role], units: role.length, utf8: new Utf8Stream() });
    }
    const pieces = this.#render();
    const answerAt = pieces.findIndex((piece) => piece.kind === 'content' && piece.message === 1);
    if (answerAt < 0) {
      throw new ServingError(
        'CHAT_TEMPLATE_FAILED',
        "the model's chat template shows no answers, so no turn can follow one; send the turn as text or token_ids",
      );
    }
    this.#committed = pieces.slice(0, answerAt + 1);
  }

  /** Starts a message. Returns ids that are certain now. */
  async startMessage(role: string, content: Uint8Array): Promise<Uint32Array> {
    if (!ROLE_PATTERN.test(role)) {
      throw new ServingError(
        'BAD_REQUEST',
        'role must be a word of at most 64 letters and digits',
        {
          fieldViolations: [{ field: 'part.message.role', description: 'a word' }],
        },
      );
    }
    this.#messages.at(-1)?.utf8.close();
    const ended = await this.#endStreaming();
    this.#messages.push({ role, contents: [], units: 0, utf8: new Utf8Stream() });
    return concatIds([ended, await this.extendMessage(content)]);
  }

  /** Extends the last message's content. */
  async extendMessage(bytes: Uint8Array): Promise<Uint32Array> {
    const message = this.#messages.at(-1);
    if (message === undefined) throw new ServingError('INTERNAL', 'no message to extend');
    const text = message.utf8.append(bytes);
    message.contents.push(text);
    message.units += text.length;
    if (this.#streaming !== null) return this.#stream(text);
    if (message.units < STREAM_FROM_UNITS) return new Uint32Array(0);
    return this.#startStreaming(message);
  }

  /** The rest of the ids. @throws ServingError CHAT_TEMPLATE_FAILED */
  async close(): Promise<Uint32Array> {
    this.#messages.at(-1)?.utf8.close();
    const ids = [await this.#endStreaming()];
    const pieces = this.#render();
    this.#checkRendering(pieces);
    ids.push(await this.#commit(pieces, pieces.length), await this.#fragments.flush());
    return concatIds(ids);
  }

  #render(): RenderedPiece[] {
    return this.#template.pieces(
      this.#messages.map(({ role, units }) => ({ role, isEmpty: units === 0 })),
    );
  }

  async #startStreaming(message: Message): Promise<Uint32Array> {
    const pieces = this.#render();
    const last = this.#messages.length - 1;
    const at = pieces.findIndex((piece) => piece.kind === 'content' && piece.message === last);
    const piece = pieces[at];
    if (piece?.kind !== 'content') return new Uint32Array(0); // the template does not show it
    const before = await this.#commit(pieces, at);
    this.#committed = pieces.slice(0, at + 1);
    this.#streaming = { piece, held: '', started: false };
    return concatIds([before, await this.#stream(message.contents.join(''))]);
  }

  async #stream(text: string): Promise<Uint32Array> {
    const streaming = this.#streaming;
    if (streaming === null) return new Uint32Array(0);
    let ready = streaming.held + text;
    if (streaming.piece.trimStart && !streaming.started) ready = ready.trimStart();
    const kept = streaming.piece.trimEnd ? ready.trimEnd().length : ready.length;
    streaming.held = ready.slice(kept);
    streaming.started ||= kept > 0;
    return this.#fragments.appendText(ready.slice(0, kept));
  }

  /** The held white space is at the content's end and goes, as trimming says. */
  async #endStreaming(): Promise<Uint32Array> {
    this.#streaming = null;
    return Promise.resolve(new Uint32Array(0));
  }

  /** Encodes pieces[committed, end), after checking that those before it have not changed. */
  async #commit(pieces: readonly RenderedPiece[], end: number): Promise<Uint32Array> {
    const same = this.#committed.every((piece, at) => isSamePiece(piece, pieces[at]));
    if (!same) {
      throw new ServingError(
        'CHAT_TEMPLATE_FAILED',
        'the chat template changes earlier text when messages follow, which a streamed conversation cannot; send it in shorter messages or as token_ids',
      );
    }
    const ids: Uint32Array[] = [];
    for (const piece of pieces.slice(this.#committed.length, end)) {
      ids.push(
        piece.kind === 'template'
          ? await this.#fragments.appendTemplate(piece.text)
          : await this.#fragments.appendText(this.#content(piece)),
      );
    }
    return concatIds(ids);
  }

  #content(piece: ContentPiece): string {
    return trimContent(this.#messages[piece.message]?.contents.join('') ?? '', piece);
  }

  /** The pieces must say what the template says of the real contents. */
  #checkRendering(pieces: readonly RenderedPiece[]): void {
    const rendered = this.#template.render(
      this.#messages.map(({ role, contents }) => ({ role, content: contents.join('') })),
    );
    const expected = pieces
      .map((piece) => (piece.kind === 'template' ? piece.text : this.#content(piece)))
      .join('');
    if (rendered === expected) return;
    throw new ServingError(
      'CHAT_TEMPLATE_FAILED',
      'the chat template changes message contents in a way that cannot be kept apart from its own text; send the prompt as text or token_ids',
    );
  }
}

type ContentPiece = Extract<RenderedPiece, { kind: 'content' }>;

function isSamePiece(a: RenderedPiece, b: RenderedPiece | undefined): boolean {
  if (a.kind === 'template') return b?.kind === 'template' && a.text === b.text;
  return (
    b?.kind === 'content' &&
    a.message === b.message &&
    a.trimStart === b.trimStart &&
    a.trimEnd === b.trimEnd
  );
}
