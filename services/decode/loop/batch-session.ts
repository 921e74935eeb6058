import type { DecodeItem, DecodeSessionHandle } from '../../../native/ts/index.js';
import type { TokenRange } from '../../domain/token-range.js';
import type { PromptLogprob } from '../../domain/session-event.js';
import type { DecodeItemResult } from '../../../native/ts/index.js';
import { AnswerText } from './answer-text.js';
import { type AnswerEnd, type EndRules, restoreAnswer } from './accept-token.js';
import type { TokenDecoder } from './detokenize.js';
import { PendingRows } from './pending-rows.js';
import type { RunningTurn, TurnHistory, TurnRequest } from './turn.js';

/** The target of a row whose prediction nobody asked for. */
const NO_TARGET = 0xffffffff;

/**
 * A session that the loop holds. Its pending rows are the tokens that the model has not seen: none
 * right after the seal, the token sampled last while decoding, a turn's tokens while it is appended,
 * and after the loss of an earlier decode what that one had run.
 */
export class BatchSession {
  /** Set once the session is to leave; the loop then skips its results. */
  leaving = false;
  /** Positions that K and V cover. */
  tokens: number;
  turn: RunningTurn | null = null;
  /** Number of the turn that runs or ran last, as the event stream counts; -1 before the first. */
  turnNumber = -1;
  /** Where that turn's prompt begins. */
  turnBeginToken = 0;
  readonly #rows = new PendingRows();

  /**
   * @param attempt in which this decode took the session
   * @param sealedTokens tokens of the hand-off
   */
  constructor(
    readonly sessionId: string,
    readonly epoch: number,
    readonly attempt: number,
    readonly handle: DecodeSessionHandle,
    readonly sealedTokens: number,
  ) {
    this.tokens = sealedTokens;
  }

  /** Tokens that the next turn's ids would follow. */
  get endToken(): number {
    return this.tokens + this.#rows.length;
  }

  /** True while tokens are run that were not just sampled. */
  get appending(): boolean {
    if (this.turn === null || this.#rows.length === 0) return false;
    return this.#rows.length > 1 || this.turn.completionTokens === 0;
  }

  /** Rows that the next step takes. */
  nextRows(maxRows: number): number {
    return this.#rows.nextCount(maxRows);
  }

  /** Begins a turn whose tokens this decode appends. */
  beginTurn(request: TurnRequest, tokenIds: Uint32Array, decoder: TokenDecoder): void {
    const beginToken = this.endToken;
    this.#rows.addPrompt(tokenIds);
    this.turn = this.#runningTurn(request, beginToken, decoder);
  }

  /**
   * Begins the session's first turn here where its history ends: at its first token, in the middle of
   * its answer, or in the middle of its prompt.
   *
   * @returns how the turn ended, if the answer was complete already
   * @throws ServingError BAD_REQUEST if the answer goes on after its end
   */
  async resumeTurn(
    request: TurnRequest,
    history: TurnHistory,
    decoder: TokenDecoder,
    rules: EndRules,
  ): Promise<AnswerEnd | null> {
    const { tokenIds, answeredTokens, turnBeginToken } = history;
    const promptEnd = tokenIds.length - answeredTokens;
    const answered = tokenIds.subarray(promptEnd);
    const turn = this.#runningTurn(request, turnBeginToken, decoder);
    const end = await restoreAnswer(turn, answered, this.sealedTokens + promptEnd, rules);
    let at = 0;
    const indexOf = (token: number): number =>
      Math.min(Math.max(token - this.sealedTokens, at), promptEnd);
    for (const { beginToken, endToken } of history.answers) {
      const begin = indexOf(beginToken);
      this.#rows.addPrompt(tokenIds.subarray(at, begin));
      at = indexOf(endToken);
      this.#rows.addAnswer(tokenIds.subarray(begin, at));
    }
    this.#rows.addPrompt(tokenIds.subarray(at, promptEnd));
    this.#rows.addAnswer(answered);
    this.turn = turn;
    return end;
  }

  /** The session's part of the next step. */
  nextItem(turn: RunningTurn, maxRows: number): DecodeItem {
    const { sampling, forcedTokenIds } = turn.generation;
    const tokenIds = this.#rows.peek(this.nextRows(maxRows));
    return {
      session: this.handle,
      tokenIds,
      logprobTargets: this.#targets(turn, tokenIds),
      sample: tokenIds.length === this.#rows.length,
      sampling: { ...sampling, seed: BigInt(sampling.seed) },
      tokenIndex: turn.completionTokens,
      forcedTokenId: forcedTokenIds[turn.completionTokens] ?? null,
    };
  }

  /** Takes in what the step did; returns the log-probabilities of the turn's tokens. */
  advance(item: DecodeItem, result: DecodeItemResult): PromptLogprob[] {
    const firstPosition = this.tokens + 1;
    this.tokens += item.tokenIds.length;
    this.#rows.take(item.tokenIds.length);
    if (result.tokenId !== null) this.#rows.addAnswer(Uint32Array.of(result.tokenId));
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

  #runningTurn(request: TurnRequest, beginToken: number, decoder: TokenDecoder): RunningTurn {
    this.turnNumber = request.turn;
    this.turnBeginToken = beginToken;
    return {
      ...request,
      text: new AnswerText(decoder, request.generation.stopping.stopTexts),
      beginToken,
      completionTokens: 0,
      firstTokenUnixMs: request.context.firstTokenUnixMs,
      lastTokenMs: null,
    };
  }

  /**
   * Row i stands at position tokens + i and predicts the token after it. Once the answer has begun,
   * whoever ran the turn's tokens has told what they predict.
   */
  #targets(turn: RunningTurn, rows: Uint32Array): Uint32Array | null {
    if (turn.completionTokens > 0) return null;
    const targets = new Uint32Array(rows.length).fill(NO_TARGET);
    let wanted = false;
    for (let row = 0; row < rows.length; row++) {
      const target = rows[row + 1] ?? this.#rows.after(rows.length);
      const position = this.tokens + row + 1;
      if (target === undefined || position < turn.beginToken) continue;
      if (!isInside(position, turn.generation.promptLogprobs)) continue;
      targets[row] = target;
      wanted = true;
    }
    return wanted ? targets : null;
  }
}

function isInside(position: number, ranges: readonly TokenRange[]): boolean {
  return ranges.some(({ beginToken, endToken }) => position >= beginToken && position < endToken);
}
