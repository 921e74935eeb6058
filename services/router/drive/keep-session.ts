import { shrinkReservation } from '../admission/reserve-turn.js';
import type { DrivenSession } from './driven-session.js';
import type { KeptState } from './kept-state.js';
import { publishPrefix } from './publish-prefix.js';

/** An offer of chunks is forgotten after an hour. */
const REPUBLISH_MS = 1_800_000;

/** Gives back what was reserved for a longer prompt. */
export async function giveBackUnused(session: DrivenSession): Promise<void> {
  const { record, deps, worker } = session;
  const before = record.reservation;
  if (worker === null || worker.storeId !== before?.storeId) return;
  const tokens = record.receivedTokens + record.generation.stopping.maxNewTokens;
  const { reservations } = deps.store;
  const reservation = await session.surely(async () =>
    shrinkReservation(session.record, worker, tokens, reservations),
  );
  // A new plan may have moved it meanwhile.
  await session.change((now) => (now.reservation === before ? { reservation } : {}));
}

/** Writes a turn's answer down: another decode, or a longer turn's lane, must find it there. */
export async function closeTurn(
  session: DrivenSession,
  answer: readonly number[],
  keepUntilUnixMs: number,
): Promise<void> {
  const { deps, record, sessionId } = session;
  const answerBegin = record.turn.endToken ?? record.receivedTokens;
  if (answer.length > 0) {
    const ids = Uint32Array.from(answer);
    await session.surely(async () => deps.store.tokenIds.put(sessionId, answerBegin, ids));
  }
  const historyTokens = answerBegin + answer.length;
  const range = { beginToken: answerBegin, endToken: historyTokens };
  const answers = answer.length > 0 ? [...record.answers, range] : record.answers;
  await session.change({ state: 'kept', keepUntilUnixMs, historyTokens, answers });
}

/** What the next turn builds on. */
export async function lastTokenOf(
  session: DrivenSession,
  lastSequence: number,
): Promise<KeptState> {
  const { record, deps, sessionId } = session;
  const { historyTokens: tokens } = record;
  const [lastTokenId] =
    tokens === 0
      ? []
      : await session.surely(async () => deps.store.tokenIds.get(sessionId, tokens - 1, tokens));
  return { lastSequence, tokens, lastTokenId: lastTokenId ?? null };
}

/** A kept session's place among those that may have to go, and its chunks for prompts that begin alike. */
export class KeptOffer {
  #chains: string[] = [];
  #timer: NodeJS.Timeout | null = null;

  constructor(private readonly session: DrivenSession) {}

  async publish(): Promise<void> {
    const { deps, record, sessionId } = this.session;
    const storeId = record.reservation?.storeId;
    if (storeId === undefined) return;
    this.#timer ??= setInterval(() => {
      this.#offer().catch((error: unknown) => {
        deps.log.warn({ err: error, sessionId }, 'a kept prefix was not offered again');
      });
    }, REPUBLISH_MS).unref();
    await deps.store.kept.touch(storeId, sessionId, deps.nowUnixMs());
    await this.#offer();
  }

  async #offer(): Promise<void> {
    this.#chains = await publishPrefix(this.session);
  }

  async withdraw(): Promise<void> {
    const { deps, record, sessionId } = this.session;
    const storeId = record.reservation?.storeId;
    const chains = this.#chains;
    this.leave();
    if (storeId === undefined || record.state === 'uploading') return;
    await deps.store.kept.remove(storeId, sessionId);
    if (chains.length > 0) await deps.store.prefixes.withdraw(storeId, sessionId, chains);
  }

  /** Another driver offers it from here on. */
  leave(): void {
    this.#chains = [];
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
  }
}
