/*
 * Distinguished encoding rules (X.690) as far as certificates need them: each function gives a whole
 * element, tag, length and content.
 */

const TAG = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  objectIdentifier: 0x06,
  utf8String: 0x0c,
  utcTime: 0x17,
  generalizedTime: 0x18,
  sequence: 0x30,
  set: 0x31,
} as const;

const CONTEXT = 0x80;
const CONSTRUCTED = 0x20;

function element(tag: number, ...content: readonly Uint8Array[]): Buffer {
  const body = Buffer.concat(content);
  return Buffer.concat([Buffer.from([tag]), lengthOf(body.length), body]);
}

function lengthOf(bytes: number): Buffer {
  if (bytes < 0x80) return Buffer.from([bytes]);
  const digits = bigEndian(bytes);
  return Buffer.from([0x80 | digits.length, ...digits]);
}

function bigEndian(value: number): number[] {
  return value === 0 ? [] : [...bigEndian(Math.floor(value / 256)), value % 256];
}

export function sequence(...elements: readonly Uint8Array[]): Buffer {
  return element(TAG.sequence, ...elements);
}

export function set(...elements: readonly Uint8Array[]): Buffer {
  return element(TAG.set, ...elements);
}

export function boolean(value: boolean): Buffer {
  return element(TAG.boolean, Buffer.from([value ? 0xff : 0x00]));
}

/** A number that is not negative, from its big-endian bytes: at least one, and no leading zeros. */
export function unsignedInteger(bytes: Uint8Array): Buffer {
  const isNegative = (bytes[0] ?? 0) >= 0x80;
  return element(TAG.integer, Buffer.from(isNegative ? [0] : []), bytes);
}

/** @param unusedBits of the last byte */
export function bitString(bytes: Uint8Array, unusedBits = 0): Buffer {
  return element(TAG.bitString, Buffer.from([unusedBits]), bytes);
}

export function octetString(bytes: Uint8Array): Buffer {
  return element(TAG.octetString, bytes);
}

export function utf8String(text: string): Buffer {
  return element(TAG.utf8String, Buffer.from(text, 'utf8'));
}

/** `1.2.840.10045.4.3.2`. */
export function objectIdentifier(dotted: string): Buffer {
  const [first = 0, second = 0, ...rest] = dotted.split('.').map(Number);
  return element(
    TAG.objectIdentifier,
    Buffer.from([first * 40 + second, ...rest.flatMap(base128)]),
  );
}

function base128(value: number): number[] {
  const digits = [value % 128];
  for (let left = Math.floor(value / 128); left > 0; left = Math.floor(left / 128)) {
    digits.unshift(0x80 | (left % 128));
  }
  return digits;
}

/** To the second; RFC 5280 wants two digits for years before 2050 and four after. */
export function time(date: Date): Buffer {
  const digits = date
    .toISOString()
    .replace(/\.\d+Z$/, 'Z')
    .replace(/[-:T]/g, '');
  return date.getUTCFullYear() < 2050
    ? element(TAG.utcTime, Buffer.from(digits.slice(2)))
    : element(TAG.generalizedTime, Buffer.from(digits));
}

/** `[number]`, explicit: around whole elements. */
export function explicit(number: number, content: Uint8Array): Buffer {
  return element(CONTEXT | CONSTRUCTED | number, content);
}

/** `[number]`, implicit: instead of a primitive element's own tag. */
export function implicit(number: number, content: Uint8Array): Buffer {
  return element(CONTEXT | number, content);
}
