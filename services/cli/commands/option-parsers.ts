import { InvalidArgumentError } from 'commander';
import { redisOptions } from '../../platform/redis-url.js';
import { SESSION_ID_PATTERN } from '../../domain/session-record.js';
import type { TokenRange } from '../../domain/token-range.js';

/** Of an unsigned 32-bit field: a larger number would wrap around on the wire. */
export const MOST_UINT32 = 2 ** 32 - 1;
export const LEAST_INT32 = -(2 ** 31);
export const MOST_INT32 = 2 ** 31 - 1;

/** An integer from `least` to `most`. */
export function integerFrom(least: number, most?: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    const isInRange = value >= least && value <= (most ?? Number.MAX_SAFE_INTEGER);
    if (!/^-?\d+$/.test(text) || !isInRange) {
      const end = most === undefined ? '' : ` to ${String(most)}`;
      throw new InvalidArgumentError(`want an integer from ${String(least)}${end}.`);
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

/** `host:port,host:port`, each once. */
export function hostPortList(text: string): [string, ...string[]] {
  const [first, ...others] = new Set(text.split(',').map(hostPort));
  if (first === undefined) throw new InvalidArgumentError('want HOST:PORT.');
  return [first, ...others];
}

/** A session's id. */
export function sessionId(text: string): string {
  if (SESSION_ID_PATTERN.test(text)) return text;
  throw new InvalidArgumentError('want 32 hex digits.');
}

/** A Redis URL, checked where its option is known by name. */
export function redisUrl(text: string): string {
  try {
    redisOptions(text);
  } catch (error) {
    throw new InvalidArgumentError(`${error instanceof Error ? error.message : String(error)}.`);
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
