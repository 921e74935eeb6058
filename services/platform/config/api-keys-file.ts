import { createHash, randomBytes } from 'node:crypto';

/*
 * The file that says who may call the router. One line a key: the tenant, a space, and the SHA-256
 * of the key in hex. A tenant may have several keys; empty lines and lines that begin with # are
 * skipped. A key is 256 random bits, so a plain digest cannot be turned back into it.
 */

/** One key of a tenant. */
export interface ApiKeyEntry {
  readonly tenant: string;
  /** SHA-256 of the key, 32 bytes. */
  readonly digest: Buffer;
}

/** Names that a tenant may have: they stand in files, logs and Redis. */
export const TENANT_PATTERN = /^[A-Za-z0-9][A-Za-z0-9._@-]{0,127}$/;
export const TENANT_RULE = 'up to 128 letters, digits, dots, @, _ or -, a letter or digit first';

const LINE = /^(\S+)[ \t]+([0-9a-fA-F]{64})$/;
const KEY_PREFIX = 'lsk_';

/** A new key: a prefix that secret scanners can look for, and 256 random bits. */
export function newApiKey(): string {
  return KEY_PREFIX + randomBytes(32).toString('base64url');
}

export function apiKeyDigest(key: string): Buffer {
  return createHash('sha256').update(key, 'utf8').digest();
}

/** A key as a line of the file, without its end. */
export function apiKeyLine(tenant: string, key: string): string {
  return `${tenant} ${apiKeyDigest(key).toString('hex')}`;
}

/** @throws Error that names the line and what is wanted, and repeats nothing of it */
export function parseApiKeys(text: string): ApiKeyEntry[] {
  const entries: ApiKeyEntry[] = [];
  const lineOfDigest = new Map<string, number>();
  for (const [index, raw] of text.split('\n').entries()) {
    const line = raw.trim();
    if (line === '' || line.startsWith('#')) continue;
    const place = `line ${String(index + 1)}`;
    const [, tenant, digest] = LINE.exec(line) ?? [];
    if (tenant === undefined || digest === undefined) {
      throw new Error(`${place}: want TENANT and the SHA-256 of a key in 64 hex digits`);
    }
    if (!TENANT_PATTERN.test(tenant)) throw new Error(`${place}: a tenant is ${TENANT_RULE}`);
    const lower = digest.toLowerCase();
    const before = lineOfDigest.get(lower);
    if (before !== undefined) throw new Error(`${place}: the key of line ${String(before)} again`);
    lineOfDigest.set(lower, index + 1);
    entries.push({ tenant, digest: Buffer.from(lower, 'hex') });
  }
  return entries;
}
