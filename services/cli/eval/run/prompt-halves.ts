import { ServingError } from '../../../domain/serving-error.js';
import type { TokenRange } from '../../../domain/token-range.js';
import { FragmentEncoder } from '../../../platform/tokenizer/fragment-encoder.js';
import {
  loadModelTokenizer,
  type ModelTokenizer,
} from '../../../platform/tokenizer/model-tokenizer.js';
import type { EvalDocument, EvalQuestion, TokenCounter } from '../eval-types.js';
import { tokenRanges } from './token-ranges.js';

/** What the model's chat template writes around the one user message. */
interface Frame {
  /** Ids that a raw text begins with; none where a template writes them. */
  readonly prefixIds: readonly number[];
  readonly before: string;
  readonly after: string;
  readonly trimStart: boolean;
  readonly trimEnd: boolean;
}

/**
 * Makes the ids of a document and of the questions that continue it inside the same user message.
 *
 * Ids, not text, are what a run sends: the API renders whole messages, and a document's end is the
 * middle of one. Making them here, with the router's own tokenizer code on the model's own files,
 * gives every policy and every question the same ids, and character spans their token positions.
 */
export class PromptHalves {
  readonly #chat: Frame;
  readonly #raw: Frame;

  /** @throws ServingError CHAT_TEMPLATE_FAILED if the template writes no user message, or several */
  constructor(private readonly tokenizer: ModelTokenizer) {
    this.#raw = {
      prefixIds: tokenizer.prefixIds,
      ...{ before: '', after: '', trimStart: false, trimEnd: false },
    };
    this.#chat = chatFrame(tokenizer) ?? this.#raw;
  }

  /** @throws ServingError MODEL_INVALID saying which file is wrong */
  static async load(model: string, directory: string): Promise<PromptHalves> {
    return new PromptHalves(await loadModelTokenizer(model, directory));
  }

  /** False for a model without a chat template: its documents are raw text. */
  get hasChat(): boolean {
    return this.tokenizer.chatTemplate !== null;
  }

  /** Tokens of a text inside a prompt. */
  readonly countTokens: TokenCounter = async (text) => {
    const fragments = this.#middle();
    const certain = await fragments.appendText(text);
    return certain.length + (await fragments.flush()).length;
  };

  /** Tokens that the chat template adds around document, question and answer's beginning. */
  async frameTokens(chat: boolean): Promise<number> {
    const { before, after, prefixIds } = chat ? this.#chat : this.#raw;
    const count = async (text: string): Promise<number> => {
      const fragments = this.#middle();
      const certain = await fragments.appendTemplate(text);
      return certain.length + (await fragments.flush()).length;
    };
    return prefixIds.length + (await count(before)) + (await count(after));
  }

  /** Everything up to the document's end. */
  async documentIds({
    promptText,
    chat,
  }: Pick<EvalDocument, 'promptText' | 'chat'>): Promise<number[]> {
    const { prefixIds, before, trimStart } = chat ? this.#chat : this.#raw;
    const fragments = new FragmentEncoder(this.tokenizer, null);
    return [
      ...prefixIds,
      ...(await fragments.appendTemplate(before)),
      ...(await fragments.appendText(trimStart ? promptText.trimStart() : promptText)),
      ...(await fragments.flush()),
    ];
  }

  /** Everything after the document's end. */
  async questionIds(
    question: Pick<EvalQuestion, 'questionText' | 'answerPrefix'>,
    chat: boolean,
  ): Promise<number[]> {
    const { after, trimEnd } = chat ? this.#chat : this.#raw;
    const { questionText, answerPrefix } = question;
    const fragments = this.#middle();
    return [
      ...(await fragments.appendText(trimEnd ? questionText.trimEnd() : questionText)),
      ...(await fragments.appendTemplate(after)),
      ...(await fragments.appendText(answerPrefix)),
      ...(await fragments.flush()),
    ];
  }

  /**
   * Where a document's targets stand among its ids: for each, the tokens that hold any of its
   * characters. Position 0, which has no log-probability, is left out.
   *
   * @param ids of `documentIds`
   * @throws ServingError BAD_REQUEST for a target without tokens
   */
  async targetRanges(document: EvalDocument, ids: readonly number[]): Promise<TokenRange[]> {
    const { promptText, chat, logprobTargets } = document;
    const { before, trimStart } = chat ? this.#chat : this.#raw;
    const text = trimStart ? promptText.trimStart() : promptText;
    // Text that touches is one text: what the template writes right before the document joins it.
    const pieces = this.tokenizer.specialTokens.split(before);
    const last = pieces.at(-1);
    const lead = last?.kind === 'text' ? last.text : '';
    const isAtStart = lead === before;
    const special = lead === '' ? last : pieces.at(-2);
    const isStripped = special?.kind === 'token' && special.token.rstrip;
    const run = isStripped ? (lead + text).trimStart() : lead + text;
    const { encodings, laterEncodings } = this.tokenizer;
    const { first } = isAtStart ? encodings : laterEncodings;
    const encoding = await first.encode(run, null, { addSpecialTokens: false });
    const own = encoding.getIds();
    const firstToken = ids.length - own.length;
    if (firstToken < 0 || own.some((id, at) => id !== ids[firstToken + at])) {
      throw new ServingError(
        'MODEL_INVALID',
        `the tokenizer of ${this.tokenizer.name} gives ids whose characters cannot be told; it cannot score texts by their place`,
      );
    }
    const shift = run.length - promptText.length;
    const spans = logprobTargets.map(({ id, beginCharacter, endCharacter }) => ({
      id,
      begin: beginCharacter + shift,
      end: endCharacter + shift,
    }));
    return tokenRanges(run, encoding.getOffsets(), spans).map(({ beginToken, endToken }) => ({
      beginToken: Math.max(firstToken + beginToken, 1),
      endToken: firstToken + endToken,
    }));
  }

  /** For text that follows other tokens. */
  #middle(): FragmentEncoder {
    return new FragmentEncoder(this.tokenizer, { lastTokenId: null });
  }
}

/** Null for a model without a chat template: its prompts are raw text. */
function chatFrame({ chatTemplate, name }: ModelTokenizer): Frame | null {
  if (chatTemplate === null) return null;
  const pieces = chatTemplate.pieces([{ role: 'user', isEmpty: false }]);
  const at = pieces.findIndex(({ kind }) => kind === 'content');
  const content = pieces[at];
  const textOf = (some: typeof pieces): string =>
    some.map((piece) => (piece.kind === 'template' ? piece.text : null)).join('');
  const contents = pieces.filter(({ kind }) => kind === 'content');
  if (content?.kind !== 'content' || contents.length !== 1) {
    throw new ServingError(
      'CHAT_TEMPLATE_FAILED',
      `the chat template of ${name} writes a user message ${String(contents.length)} times; an evaluation needs it once`,
    );
  }
  const { trimStart, trimEnd } = content;
  const [before, after] = [textOf(pieces.slice(0, at)), textOf(pieces.slice(at + 1))];
  return { prefixIds: [], before, after, trimStart, trimEnd };
}
