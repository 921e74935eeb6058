import { crc32 } from 'node:zlib';
import { canonicalJson } from './fingerprint.js';

/** A job as the queue holds it: its fields, and a checksum over them. */
export type Checksummed<T> = T & { readonly checksum: number };

/** CRC-32 over canonical JSON: a job may lie in Redis for hours, and what was flipped there still parses. */
export function withChecksum<T extends object>(job: T): Checksummed<T> {
  return { ...job, checksum: crc32(canonicalJson(job)) };
}

/** The fields without their checksum, or null if it is not theirs. */
export function checked(data: unknown): unknown {
  if (typeof data !== 'object' || data === null || !('checksum' in data)) return null;
  const { checksum, ...job } = data;
  return checksum === crc32(canonicalJson(job)) ? job : null;
}
