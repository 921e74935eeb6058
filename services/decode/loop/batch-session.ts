import type { DecodeItem, DecodeSessionHandle } from '../../../native/ts/index.js';
import type { TokenRange } from '../../domain/token-range.js';
import type { PromptLogprob } from '../../domain/session-event.js';
import type { DecodeItemResult } from '../../../native/ts/index.js';
import { AnswerText } from './answer-text.js';
import type { TokenDecoder } from './detokenize.js';
import type { TurnRequest } from './turn.js';

/** The target of a row whose prediction nobody asked for. */
const NO_TARGET = 0xffffffff;
const NO_ROWS = new Uint32Array(0);

/** A turn as it runs. */
interface RunningTurn extends TurnRequest {
  readonly text: AnswerText;
  /** Position of the turn's first appended token; the prompt's length for a first turn. */
  readonly beginToken: number;
  completionTokens: number;
  firstTokenUnixMs: number | null;
}

/**
 * A session that the loop holds. `rows` are the tokens that the model has not seen: none right
 * after the seal, the token sampled last while decoding, a turn's tokens while it is appended.
 */
export class BatchSession {
  /** Set once the session is to leave; the loop then skips its results. */
  leaving = false;
  /** Positions that K and V cover. */
  tokens: number;
  turn: RunningTurn | null = null;
  /**
   * Number of the turn that runs or ran last, as the event stream counts them: the one that the
   * session started with is 0. -1 before it.
   */
  turnNumber = -1;
  #rows: Uint32Array = NO_ROWS;

  /** @param sealedTokens tokens of the hand-off */
  constructor(
    readonly sessionId: string,
    readonly epoch: number,
    readonly handle: DecodeSessionHandle,
    readonly sealedTokens: number,
  ) {
    this.tokens = sealedTokens;
  }

  /** Tokens that the next turn's ids would follow. */
  get endToken(): number {
    return this.tokens + this.#rows.length;
  }

  /** True while a turn's tokens, not yet the answer, are being run. */
  get appending(): boolean {
    return this.turn !== null && this.turn.completionTokens === 0 && this.#rows.length > 0;
  }

  /** Rows that the next step takes. */
  nextRows(maxRows: number): number {
    return Math.min(this.#rows.length, maxRows);
  }

  /** @param tokenIds the turn's tokens; empty for the first turn, which the worker prefilled */
  beginTurn(request: TurnRequest, tokenIds: Uint32Array, decoder: TokenDecoder): void {
    const beginToken = this.endToken;
    const rows = new Uint32Array(this.#rows.length + tokenIds.length);
    rows.set(this.#rows);
    rows.set(tokenIds, this.#rows.length);
    this.#rows = rows;
    this.turnNumber++;
    this.turn = {
      ...request,
      text: new AnswerText(decoder, request.generation.stopping.stopTexts),
      beginToken,
      completionTokens: 0,
      firstTokenUnixMs: null,
    };
  }

  /** The session's part of the next step. */
  nextItem(turn: RunningTurn, maxRows: number): DecodeItem {
    const { sampling, forcedTokenIds } = turn.generation;
    const count = this.nextRows(maxRows);
    return {
      session: this.handle,
      tokenIds: this.#rows.slice(0, count),
      logprobTargets: this.#targets(turn, count),
      sample: count === this.#rows.length,
      sampling: { ...sampling, seed: BigInt(sampling.seed) },
      tokenIndex: turn.completionTokens,
      forcedTokenId: forcedTokenIds[turn.completionTokens] ?? null,
    };
  }

  /** Takes in what the step did; returns the log-probabilities of the turn's tokens. */
  advance(item: DecodeItem, result: DecodeItemResult): PromptLogprob[] {
    const firstPosition = this.tokens + 1;
    this.tokens += item.tokenIds.length;
    this.#rows =
      result.tokenId === null
        ? this.#rows.slice(item.tokenIds.length)
        : Uint32Array.of(result.tokenId);
    const logprobs: PromptLogprob[] = [];
    item.logprobTargets?.forEach((tokenId, row) => {
      if (tokenId === NO_TARGET) return;
      logprobs.push({
        position: firstPosition + row,
        tokenId,
        logprob: result.targetLogprobs?.[row] ?? NaN,
        rank: result.targetRanks?.[row] ?? 0,
      });
    });
    return logprobs;
  }

  /** Row i stands at position tokens + i and predicts the token after it. */
  #targets(turn: RunningTurn, count: number): Uint32Array | null {
    const targets = new Uint32Array(count).fill(NO_TARGET);
    let wanted = false;
    for (let row = 0; row < count; row++) {
      const target = this.#rows[row + 1];
      const position = this.tokens + row + 1;
      if (target === undefined || position < turn.beginToken) continue;
      if (!isInside(position, turn.generation.promptLogprobs)) continue;
      targets[row] = target;
      wanted = true;
    }
    return wanted ? targets : null;
  }
}

export type { RunningTurn };

function isInside(position: number, ranges: readonly TokenRange[]): boolean {
  return ranges.some(({ beginToken, endToken }) => position >= beginToken && position < endToken);
}
