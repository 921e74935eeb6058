import type { TokenIdStore } from '../../domain/session-store.js';
import type { TokenRange } from '../../domain/token-range.js';
import { nextChunk, type CutRule, type PlanState } from '../../domain/plan-prefill-chunks.js';
import { TokenBuffer } from './token-buffer.js';

/**
 * A session's prompt ids: those that are not written down yet in memory, all others in the token id
 * store, from where another driver, or another lane, can take them.
 */
export class PromptTokens {
  readonly #buffer: TokenBuffer;

  /** @param complete for a session whose ids are all stored: how many are, and how many a lane runs */
  constructor(
    private readonly sessionId: string,
    private readonly store: TokenIdStore,
    private readonly cutRule: CutRule,
    private readonly complete: { readonly stored: number; readonly lane: number } | null = null,
  ) {
    this.#buffer = new TokenBuffer(complete?.stored);
  }

  /** Tokens that a lane is to run, as far as they have come. */
  get received(): number {
    return this.complete?.lane ?? this.#buffer.received;
  }

  get closed(): boolean {
    return this.complete !== null || this.#buffer.closed;
  }

  append(ids: Uint32Array): void {
    this.#buffer.append(ids);
  }

  close(): void {
    this.#buffer.close();
  }

  async changed(signal: AbortSignal): Promise<void> {
    return this.#buffer.changed(signal);
  }

  planState(nextToken: number): PlanState {
    return { nextToken, receivedTokens: this.received, uploadClosed: this.closed };
  }

  /** Writes a chunk's ids down, unless they are. Safe to repeat. */
  async keep({ beginToken, endToken }: TokenRange): Promise<void> {
    const begin = Math.max(beginToken, this.#buffer.base);
    if (begin >= endToken) return;
    await this.store.put(this.sessionId, begin, this.#buffer.slice(begin, endToken));
    this.#buffer.drop(endToken);
  }

  /** Writes down all that is received, chunk by chunk. */
  async keepAll(): Promise<void> {
    for (;;) {
      const chunk = nextChunk(this.planState(this.#buffer.base), this.cutRule);
      if (chunk === null) return;
      await this.keep(chunk);
    }
  }

  /** Ids of [begin, end), all received. */
  async slice(begin: number, end: number): Promise<Uint32Array> {
    const { base } = this.#buffer;
    if (begin >= base) return this.#buffer.slice(begin, end);
    const stored = await this.store.get(this.sessionId, begin, Math.min(end, base));
    if (end <= base) return stored;
    const ids = new Uint32Array(end - begin);
    ids.set(stored);
    ids.set(this.#buffer.slice(base, end), base - begin);
    return ids;
  }

  /** The id at a position, or null past the last received. */
  async at(position: number): Promise<number | null> {
    if (position >= this.received) return null;
    const [id] = await this.slice(position, position + 1);
    return id ?? null;
  }
}
