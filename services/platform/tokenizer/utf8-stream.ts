import { ServingError } from '../../domain/serving-error.js';

/**
 * Decodes UTF-8 that arrives in any pieces. A byte-order mark is text like any other.
 *
 * Only whole characters go through the decoder; at most three bytes wait for the next piece.
 */
export class Utf8Stream {
  readonly #decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
  /** Bytes of an unfinished character. */
  #rest = Buffer.alloc(0);
  /** Offset of #rest[0] in the stream. */
  #offset = 0;

  /** @throws ServingError INVALID_UTF8 naming the byte offset in the stream */
  append(bytes: Uint8Array): string {
    const joined = this.#rest.length === 0 ? bytes : Buffer.concat([this.#rest, bytes]);
    const whole = joined.length - unfinishedBytes(joined);
    const text = this.#decode(joined.subarray(0, whole));
    this.#rest = Buffer.from(joined.subarray(whole));
    this.#offset += whole;
    return text;
  }

  /** @throws ServingError INVALID_UTF8 if the stream ends inside a character */
  close(): void {
    if (this.#rest.length > 0) throw invalid(this.#offset, 'the text ends inside a character');
  }

  #decode(bytes: Uint8Array): string {
    try {
      return this.#decoder.decode(bytes);
    } catch {
      throw invalid(this.#offset + firstInvalidByte(bytes), 'these bytes are not a character');
    }
  }
}

function invalid(offset: number, what: string): ServingError {
  return new ServingError(
    'INVALID_UTF8',
    `text is not UTF-8 at byte ${String(offset)}: ${what}; send UTF-8, or token_ids`,
    {
      fieldViolations: [
        { field: 'part.text', description: `valid UTF-8 at byte ${String(offset)}` },
      ],
    },
  );
}

/** Length a lead byte announces; 1 for anything that leads nothing (the decoder then refuses it). */
function announcedBytes(lead: number): number {
  if (lead >= 0xf0 && lead <= 0xf4) return 4;
  if (lead >= 0xe0 && lead <= 0xef) return 3;
  return lead >= 0xc2 && lead <= 0xdf ? 2 : 1;
}

/** How many bytes at the end begin a character that later bytes may complete: 0 to 3. */
function unfinishedBytes(bytes: Uint8Array): number {
  for (let back = 1; back <= Math.min(3, bytes.length); back += 1) {
    const byte = bytes[bytes.length - back] ?? 0;
    if (byte < 0x80) return 0;
    if (byte >= 0xc0) return announcedBytes(byte) > back ? back : 0;
  }
  return 0;
}

/** Offset of the first byte that belongs to no character, by the table of the Unicode standard. */
function firstInvalidByte(bytes: Uint8Array): number {
  let at = 0;
  while (at < bytes.length) {
    const lead = bytes[at] ?? 0;
    const length = announcedBytes(lead);
    if (lead >= 0x80 && length === 1) return at;
    const second = bytes[at + 1] ?? 0;
    const low = lead === 0xe0 ? 0xa0 : lead === 0xf0 ? 0x90 : 0x80;
    const high = lead === 0xed ? 0x9f : lead === 0xf4 ? 0x8f : 0xbf;
    if (length > 1 && (second < low || second > high)) return at;
    for (let i = 2; i < length; i += 1) {
      if (((bytes[at + i] ?? 0) & 0xc0) !== 0x80) return at;
    }
    at += length;
  }
  return bytes.length;
}
