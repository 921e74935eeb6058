import { ServingError } from '../../domain/serving-error.js';
import { type ChatTemplate, type RenderedPiece, trimContent } from './chat-template.js';
import { type Continuation, FragmentEncoder } from './fragment-encoder.js';
import type { ModelTokenizer } from './model-tokenizer.js';
import { concatIds } from './text-encoder.js';
import { Utf8Stream } from './utf8-stream.js';

/** Text waits until there is so much of it (UTF-16 units); the rest of its message then streams. */
const COMMIT_FROM_UNITS = 4_096;
/**
 * And so much for each message so far: rendering runs on the event loop and takes longer with every
 * message, so that it must stay a small share of the time that encoding the text takes.
 */
const COMMIT_FROM_UNITS_A_MESSAGE = 1_024;
/** What is kept of a content that the template does not show. */
const HIDDEN_UNITS = 64;
/** What one rendering can take: about 100 ms. */
export const MAX_MESSAGES = 4_096;
/** Roles stand in the template's own text, where special tokens are recognised. */
const ROLE_PATTERN = /^[A-Za-z][A-Za-z0-9_-]{0,63}$/;

interface Message {
  readonly role: string;
  contents: string[];
  /** Of the whole content, in UTF-16 units; it may be more than `contents` holds. */
  units: number;
  /** The template does not show this message: its content is not kept. */
  isHidden: boolean;
}

/**
 * Encodes a conversation whose messages arrive in parts.
 *
 * Short conversations are rendered at the end. When enough text waits, the rendering up to the last
 * message's content is committed, and the rest of that content is encoded as it comes; at the end
 * the whole rendering must begin with what was committed. Contents never yield special tokens: the
 * template is rendered with marks in their place.
 */
export class ChatEncoder {
  readonly #template: ChatTemplate;
  readonly #fragments: FragmentEncoder;
  readonly #messages: Message[] = [];
  /** Of the last message's content. */
  #utf8 = new Utf8Stream();
  /** Messages and text that no commit has reached. */
  #waitingMessages = 0;
  #waitingUnits = 0;
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
      this.#messages.push({ role, contents: [role], units: role.length, isHidden: false });
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

  /** Tokens that are still to come, at least: each message counts as one. */
  get waitingTokens(): number {
    return this.#waitingMessages;
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
    if (this.#messages.length >= MAX_MESSAGES) throw tooManyMessages();
    this.#utf8.close();
    this.#utf8 = new Utf8Stream();
    this.#streaming = null; // the white space that it held ends its content: trimming drops it
    this.#messages.push({ role, contents: [], units: 0, isHidden: false });
    this.#waitingMessages += 1;
    return this.extendMessage(content);
  }

  /** Extends the last message's content. */
  async extendMessage(bytes: Uint8Array): Promise<Uint32Array> {
    const message = this.#messages.at(-1);
    if (message === undefined) throw new ServingError('INTERNAL', 'no message to extend');
    const text = this.#utf8.append(bytes);
    message.units += text.length;
    if (message.isHidden) return new Uint32Array(0);
    message.contents.push(text);
    if (this.#streaming !== null) return this.#stream(text);
    this.#waitingUnits += text.length;
    const enough = COMMIT_FROM_UNITS_A_MESSAGE * this.#messages.length;
    if (this.#waitingUnits < Math.max(enough, COMMIT_FROM_UNITS)) return new Uint32Array(0);
    return this.#commitWaiting();
  }

  /** The rest of the ids. @throws ServingError CHAT_TEMPLATE_FAILED */
  async close(): Promise<Uint32Array> {
    this.#utf8.close();
    this.#streaming = null;
    const pieces = this.#render();
    this.#checkHidden(pieces);
    this.#checkRendering(pieces);
    const last = await this.#commit(pieces, pieces.length);
    return concatIds([last, await this.#fragments.flush()]);
  }

  #render(): RenderedPiece[] {
    return this.#template.pieces(
      this.#messages.map(({ role, units }) => ({ role, isEmpty: units === 0 })),
    );
  }

  /**
   * Commits up to the last message's content, which streams from now on. Where the template hides
   * the last message, what it writes after the last content that it shows is not known yet.
   */
  async #commitWaiting(): Promise<Uint32Array> {
    const pieces = this.#render();
    const last = this.#messages.length - 1;
    const at = pieces.findIndex((piece) => piece.kind === 'content' && piece.message === last);
    const piece = pieces[at];
    const end = at < 0 ? pieces.findLastIndex(({ kind }) => kind === 'content') + 1 : at;
    const before = await this.#commit(pieces, end);
    this.#committed = pieces.slice(0, at < 0 ? end : at + 1);
    this.#waitingMessages = 0;
    this.#waitingUnits = 0;
    this.#dropHidden(pieces);
    if (piece?.kind !== 'content') return before;
    this.#streaming = { piece, held: '', started: false };
    const content = this.#messages[last]?.contents.join('') ?? '';
    return concatIds([before, await this.#stream(content)]);
  }

  /** Text that gives no ids has no other limit. */
  #dropHidden(pieces: readonly RenderedPiece[]): void {
    const shown = new Set(pieces.map((piece) => (piece.kind === 'content' ? piece.message : -1)));
    this.#messages.forEach((message, at) => {
      if (shown.has(at) || message.isHidden) return;
      message.isHidden = true;
      message.contents = [message.contents.join('').slice(0, HIDDEN_UNITS)];
    });
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

  /** Encodes pieces[committed, end), after checking that those before it have not changed. */
  async #commit(pieces: readonly RenderedPiece[], end: number): Promise<Uint32Array> {
    const same = this.#committed.every((piece, at) => isSamePiece(piece, pieces[at]));
    if (!same) throw changedEarlierText();
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

  /** A content that was dropped must not come back. */
  #checkHidden(pieces: readonly RenderedPiece[]): void {
    const isBack = (piece: RenderedPiece): boolean =>
      piece.kind === 'content' && this.#messages[piece.message]?.isHidden === true;
    if (pieces.some(isBack)) throw changedEarlierText();
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

function changedEarlierText(): ServingError {
  return new ServingError(
    'CHAT_TEMPLATE_FAILED',
    'the chat template changes earlier text when messages follow, which a streamed conversation cannot; send it in shorter messages or as token_ids',
  );
}

function tooManyMessages(): ServingError {
  const limit = String(MAX_MESSAGES);
  return new ServingError(
    'BAD_REQUEST',
    `a conversation may have at most ${limit} messages; send a longer one as text or token_ids`,
    { fieldViolations: [{ field: 'part.message', description: `at most ${limit} messages` }] },
  );
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
