import { stat } from 'node:fs/promises';
import { ServingError } from '../../domain/serving-error.js';
import { parseApiKeys, type ApiKeyEntry } from '../../platform/config/api-keys-file.js';
import { readPrivateFile } from '../../platform/config/private-file.js';
import type { Log } from '../../platform/log.js';
import { tenantOfKey } from './key-ring.js';

/** A change holds after one to two of these. */
const POLL_MS = 500;

/**
 * The API keys of a file, which is read again when it changes. A new version that cannot be read,
 * has the wrong mode or a wrong line changes nothing and is logged.
 */
export class ApiKeys {
  /** What the file was when it was last read, well or not. */
  #readStamp: string;
  #seenStamp: string;
  #timer: NodeJS.Timeout;
  #closed = false;

  private constructor(
    private readonly path: string,
    private readonly log: Log,
    private keys: readonly ApiKeyEntry[],
    stamp: string,
  ) {
    this.#readStamp = stamp;
    this.#seenStamp = stamp;
    this.#timer = this.#nextLook();
    log.info({ path, keys: keys.length }, 'API keys are wanted of every call');
    this.#warnIfNone();
  }

  /** @throws ServingError BAD_REQUEST with what is wrong with the file */
  static async open(path: string, log: Log): Promise<ApiKeys> {
    const stamp = await stampOf(path);
    try {
      return new ApiKeys(path, log, parseApiKeys(await readPrivateFile(path)), stamp);
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      throw new ServingError(
        'BAD_REQUEST',
        `ROUTER_API_KEYS_FILE: ${reason}`,
        {},
        { cause: error },
      );
    }
  }

  /** The caller's tenant. @throws ServingError UNAUTHENTICATED */
  readonly authenticate = (authorization: string | null): string =>
    tenantOfKey(authorization, this.keys);

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
  }

  #nextLook(): NodeJS.Timeout {
    return setTimeout(() => {
      void this.#look().finally(() => {
        if (!this.#closed) this.#timer = this.#nextLook();
      });
    }, POLL_MS).unref();
  }

  /** Reads a changed file once it has stopped changing: half a file may parse too. */
  async #look(): Promise<void> {
    const stamp = await stampOf(this.path);
    const isSettled = stamp === this.#seenStamp;
    this.#seenStamp = stamp;
    if (stamp === this.#readStamp || !isSettled) return;
    this.#readStamp = stamp;
    try {
      this.keys = parseApiKeys(await readPrivateFile(this.path));
      this.log.info({ path: this.path, keys: this.keys.length }, 'API keys were read again');
      this.#warnIfNone();
    } catch (error) {
      this.log.error(
        { path: this.path, err: error },
        'new API keys are not usable; the old ones hold',
      );
    }
  }

  #warnIfNone(): void {
    if (this.keys.length === 0)
      this.log.warn({ path: this.path }, 'no API key: all calls are refused');
  }
}

/** Tells versions of a file apart; a link's is that of its target. */
async function stampOf(path: string): Promise<string> {
  try {
    const { dev, ino, size, mtimeNs, ctimeNs } = await stat(path, { bigint: true });
    return [dev, ino, size, mtimeNs, ctimeNs].join(' ');
  } catch {
    return 'absent';
  }
}
