import { ServingError } from '../../domain/serving-error.js';
import type { SessionRecords } from '../../domain/session-store.js';
import { findStale, removeStaleFiles, type StaleFiles } from './remove-stale-sessions.js';
import { hasStaleFiles, storedSessionIds } from './session-files.js';

/** Memory that a dead worker left is missing until then; a sweep asks for every session's record. */
const SWEEP_MS = 30_000;

export interface StoreSweepOptions {
  readonly directory: string;
  readonly records: Pick<SessionRecords, 'load'>;
  /** Of what is open in this worker, the worker itself knows when it goes. */
  readonly isOpen: (sessionId: string) => boolean;
  readonly onRemoved: (bytes: number) => void;
  /** A session whose files stay, since nobody can judge them; told once. */
  readonly onDoubt: (sessionId: string, error: ServingError) => void;
  readonly onError: (error: unknown) => void;
}

/**
 * Removes files that nobody is left to remove: of sessions whose worker died, which are over or go on
 * elsewhere. Several workers of one store may do it at once.
 */
export class StoreSweep {
  /** Of the last sweep: by session, the last epoch that was stale. */
  #suspects: ReadonlyMap<string, number> = new Map();
  #doubted = new Set<string>();

  constructor(private readonly options: StoreSweepOptions) {}

  /**
   * Removes what is stale now and was at the last call: between two calls a new plan of a session has
   * linked the segments that it wants, and a worker that was told has removed them itself. While Redis
   * is away nothing goes, and the count begins again.
   */
  async run(): Promise<void> {
    const suspected = this.#suspects;
    this.#suspects = new Map();
    const stale = await this.#find();
    const again = stale.flatMap(({ sessionId, throughEpoch }) => {
      const before = suspected.get(sessionId);
      if (before === undefined || this.options.isOpen(sessionId)) return [];
      return [{ sessionId, throughEpoch: Math.min(before, throughEpoch) }];
    });
    const { directory } = this.options;
    const bytes = await removeStaleFiles(directory, again, this.#doubt);
    if (bytes > 0) this.options.onRemoved(bytes);
    this.#suspects = new Map(stale.map((files) => [files.sessionId, files.throughEpoch]));
  }

  async #find(): Promise<StaleFiles[]> {
    const { directory, records, isOpen } = this.options;
    const stored = await storedSessionIds(directory);
    this.#doubted = new Set(stored.filter((sessionId) => this.#doubted.has(sessionId)));
    const others = stored.filter((sessionId) => !isOpen(sessionId));
    const found: StaleFiles[] = [];
    for (const files of await this.#judged(others, records)) {
      try {
        if (await hasStaleFiles(directory, files)) found.push(files);
      } catch (error) {
        if (!(error instanceof ServingError)) throw error;
        this.#doubt(files.sessionId, error);
      }
    }
    return found;
  }

  async #judged(
    sessionIds: readonly string[],
    records: Pick<SessionRecords, 'load'>,
  ): Promise<StaleFiles[]> {
    try {
      return await findStale(sessionIds, records, this.#doubt);
    } catch (error) {
      if (error instanceof ServingError && error.code === 'REDIS_UNAVAILABLE') return [];
      throw error;
    }
  }

  readonly #doubt = (sessionId: string, error: ServingError): void => {
    if (this.#doubted.has(sessionId)) return;
    this.#doubted.add(sessionId);
    this.options.onDoubt(sessionId, error);
  };
}

/** Sweeps every 30 s; while one sweep is under way, no other begins. */
export function watchStore(options: StoreSweepOptions): { stop(): void } {
  const sweep = new StoreSweep(options);
  let isSweeping = false;
  const timer = setInterval(() => {
    if (isSweeping) return;
    isSweeping = true;
    sweep
      .run()
      .catch(options.onError)
      .finally(() => {
        isSweeping = false;
      });
  }, SWEEP_MS).unref();
  return {
    stop: () => {
      clearInterval(timer);
    },
  };
}
