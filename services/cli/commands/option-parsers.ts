import { InvalidArgumentError } from 'commander';
import type { TokenRange } from '../../domain/token-range.js';

/** An integer of at least `least`. */
export function integerFrom(least: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^-?\d+$/.test(text) || !Number.isSafeInteger(value) || value < least) {
      throw new InvalidArgumentError(`want an integer from ${String(least)}.`);
    }
    return value;
  };
}

/** A finite number; ranges are the server's to check. */
export function finiteNumber(text: string): number {
  const value = Number(text);
  if (text.trim() === '' || !Number.isFinite(value)) {
    throw new InvalidArgumentError('want a number.');
  }
  return value;
}

/** An unsigned 64-bit integer, kept as text. */
export function unsigned64(text: string): string {
  if (!/^\d{1,20}$/.test(text) || BigInt(text) > 0xffff_ffff_ffff_ffffn) {
    throw new InvalidArgumentError('want an integer from 0 to 18446744073709551615.');
  }
  return text;
}

/** `host:port`. */
export function hostPort(text: string): string {
  if (!/^\S+:\d{1,5}$/.test(text) || Number(text.slice(text.lastIndexOf(':') + 1)) > 65_535) {
    throw new InvalidArgumentError('want HOST:PORT, as 127.0.0.1:7000.');
  }
  return text;
}

/** `0,1,5`: integers from 0. */
export function integerList(text: string): number[] {
  return text.split(',').map(integerFrom(0));
}

/** `A:B`, half-open; collected when the option is repeated. */
export function collectRange(text: string, previous: readonly TokenRange[]): TokenRange[] {
  const [, begin, end] = /^(\d+):(\d+)$/.exec(text) ?? [];
  if (begin === undefined || end === undefined || Number(end) <= Number(begin)) {
    throw new InvalidArgumentError('want BEGIN:END with BEGIN below END, as 100:200.');
  }
  return [...previous, { beginToken: Number(begin), endToken: Number(end) }];
}
