import type { PromptPart } from '../../../proto/gen/longshadow/router/v1/PromptPart.js';

/** A prompt as the command line takes it. */
export type Prompt =
  /** UTF-8 of raw text. */
  | { readonly kind: 'text'; readonly bytes: AsyncIterable<Uint8Array> | Iterable<Uint8Array> }
  | { readonly kind: 'chat'; readonly messages: readonly ChatMessage[] }
  | { readonly kind: 'ids'; readonly ids: readonly number[] };

export interface ChatMessage {
  readonly role: string;
  readonly content: string;
}

/** Bytes of a text part. */
const PART_BYTES = 64 * 1024;
/** Ids of a part: about as many bytes on the wire. */
const PART_IDS = 16 * 1024;

/** Cuts a prompt into wire parts of about 64 KiB; a part may end inside a character. */
export async function* promptParts(prompt: Prompt): AsyncGenerator<PromptPart> {
  switch (prompt.kind) {
    case 'text':
      for await (const bytes of prompt.bytes) {
        for (const piece of pieces(bytes)) yield { text: piece };
      }
      return;
    case 'chat':
      for (const { role, content } of prompt.messages) {
        const [first, ...rest] = pieces(Buffer.from(content));
        yield { message: { role, content: first ?? Buffer.alloc(0) } };
        for (const piece of rest) yield { text: piece };
      }
      return;
    case 'ids':
      for (let begin = 0; begin < prompt.ids.length; begin += PART_IDS) {
        yield { tokenIds: { ids: prompt.ids.slice(begin, begin + PART_IDS) } };
      }
  }
}

function pieces(bytes: Uint8Array): Uint8Array[] {
  const cut: Uint8Array[] = [];
  for (let begin = 0; begin < bytes.length; begin += PART_BYTES) {
    cut.push(bytes.subarray(begin, begin + PART_BYTES));
  }
  return cut;
}
