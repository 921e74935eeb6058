import assert from '../../../support/assert.js';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { ServingError } from '../../../../services/domain/serving-error.js';
import { Utf8Stream } from '../../../../services/platform/tokenizer/utf8-stream.js';

const decode = (parts: readonly Uint8Array[]): string => {
  const stream = new Utf8Stream();
  const text = parts.map((part) => stream.append(part)).join('');
  stream.close();
  return text;
};

describe('UTF-8 in parts', () => {
  test('any split gives the text, byte-order mark included', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: 'binary' }),
        fc.array(fc.nat(), { maxLength: 6 }),
        (text, places) => {
          const bytes = Buffer.from(`\ufeff${text}`);
          const cuts = [
            0,
            ...places.map((place) => place % (bytes.length + 1)).sort((a, b) => a - b),
            bytes.length,
          ];
          const parts = cuts.slice(1).map((to, i) => bytes.subarray(cuts[i], to));
          assert.equal(decode(parts), `\ufeff${text}`);
        },
      ),
    );
  });

  test('agrees with the platform on what is valid, byte by byte', () => {
    const valid = (bytes: Uint8Array): boolean => {
      try {
        new TextDecoder('utf-8', { fatal: true }).decode(bytes);
        return true;
      } catch {
        return false;
      }
    };
    const nasty = fc.constantFrom(
      0x41,
      0x7f,
      0x80,
      0x8f,
      0x90,
      0x9f,
      0xa0,
      0xbf,
      0xc0,
      0xc1,
      0xc2,
      0xdf,
      0xe0,
      0xed,
      0xef,
      0xf0,
      0xf4,
      0xf5,
      0xff,
    );
    fc.assert(
      fc.property(fc.array(nasty, { maxLength: 6 }), (values) => {
        const bytes = Uint8Array.from(values);
        const inOnePart = (): string => decode([bytes]);
        const byteByByte = (): string => decode([...bytes].map((byte) => Uint8Array.of(byte)));
        for (const work of [inOnePart, byteByByte]) {
          if (valid(bytes)) assert.equal(work(), Buffer.from(bytes).toString());
          else assert.throws(work, ServingError);
        }
      }),
      { numRuns: 3_000 },
    );
  });

  const bad = [
    { name: 'a stray continuation', parts: [[0x61, 0x80]], offset: 1 },
    {
      name: 'an overlong form',
      parts: [
        [0x61, 0x62],
        [0xc0, 0x80],
      ],
      offset: 2,
    },
    { name: 'a surrogate', parts: [[0x61], [0xed, 0xa0, 0x80]], offset: 1 },
    { name: 'a value past U+10FFFF', parts: [[0xf4, 0x90, 0x80, 0x80]], offset: 0 },
    { name: 'a broken character after a split', parts: [[0x61, 0xe4, 0xb8], [0x61]], offset: 1 },
    { name: 'an end inside a character', parts: [[0x61, 0x62, 0xf0, 0x9f], [0x98]], offset: 2 },
  ];
  for (const { name, parts, offset } of bad) {
    test(`${name} is refused at byte ${String(offset)}`, () => {
      assert.throws(
        () => decode(parts.map((part) => Uint8Array.from(part))),
        (error) =>
          error instanceof ServingError &&
          error.code === 'INVALID_UTF8' &&
          error.message.includes(`byte ${String(offset)}:`),
      );
    });
  }
});
