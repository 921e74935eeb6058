import { randomBytes } from 'node:crypto';
import { Template } from '@huggingface/jinja';
import { ServingError } from '../../domain/serving-error.js';

/** A piece of a rendered conversation: text of the template, or a message's content. */
export type RenderedPiece =
  | { readonly kind: 'template'; readonly text: string }
  | {
      readonly kind: 'content';
      readonly message: number;
      /** The template strips white space from the content's beginning. */
      readonly trimStart: boolean;
      readonly trimEnd: boolean;
    };

export interface RenderedMessage {
  readonly role: string;
  readonly content: string;
}

/** White space that no template writes itself: shows whether the template trims contents. */
const TRIM_PROBE = '\u2003';

/** A model's chat template (Jinja), and what it may name. */
export class ChatTemplate {
  readonly #template: Template;
  /** Unguessable, so that no content can look like a place for content. */
  readonly #mark = randomBytes(16).toString('hex');

  /**
   * @param variables bos_token, eos_token and the like
   * @throws ServingError MODEL_INVALID if the template does not parse
   */
  constructor(
    source: string,
    private readonly variables: Readonly<Record<string, unknown>>,
  ) {
    try {
      this.#template = new Template(source);
    } catch (error) {
      throw new ServingError(
        'MODEL_INVALID',
        `chat template does not parse: ${reason(error)}`,
        {},
        { cause: error },
      );
    }
  }

  /** The whole text, ready for the answer. @throws ServingError CHAT_TEMPLATE_FAILED */
  render(messages: readonly RenderedMessage[]): string {
    try {
      return this.#template.render({
        ...this.variables,
        messages: messages.map(({ role, content }) => ({ role, content })),
        add_generation_prompt: true,
      });
    } catch (error) {
      throw new ServingError(
        'CHAT_TEMPLATE_FAILED',
        `the model's chat template refuses these messages: ${reason(error)}; check roles and their order`,
        {},
        { cause: error },
      );
    }
  }

  /** The rendering with its contents' places kept apart from the template's own text. */
  pieces(
    messages: readonly { readonly role: string; readonly isEmpty: boolean }[],
  ): RenderedPiece[] {
    const rendered = this.render(
      messages.map(({ role, isEmpty }, message) => ({
        role,
        content: isEmpty ? '' : `${TRIM_PROBE}${this.#place(message)}${TRIM_PROBE}`,
      })),
    );
    const parts = rendered.split(
      new RegExp(`(${TRIM_PROBE}?)C${this.#mark}N(\\d+)E(${TRIM_PROBE}?)`, 'u'),
    );
    const pieces: RenderedPiece[] = [];
    for (let i = 0; i < parts.length; i += 4) {
      const [text = '', before = '', message, after = ''] = parts.slice(i, i + 4);
      if (text !== '') pieces.push({ kind: 'template', text });
      if (message === undefined) continue;
      const trims = { trimStart: before === '', trimEnd: after === '' };
      pieces.push({ kind: 'content', message: Number(message), ...trims });
    }
    return pieces;
  }

  #place(message: number): string {
    return `C${this.#mark}N${String(message)}E`;
  }
}

/** What a template's trimming leaves of a content. */
export function trimContent(
  content: string,
  { trimStart, trimEnd }: { readonly trimStart: boolean; readonly trimEnd: boolean },
): string {
  const started = trimStart ? content.trimStart() : content;
  return trimEnd ? started.trimEnd() : started;
}

function reason(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
