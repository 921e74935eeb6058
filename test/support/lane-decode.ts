import type { GetStatusResponse__Output as DecodeStatus } from '../../proto/gen/longshadow/decode/v1/GetStatusResponse.js';
import type { StartSessionRequest } from '../../proto/gen/longshadow/decode/v1/StartSessionRequest.js';
import { type ServiceChild, stopServiceChild } from '../../services/cli/cluster/service-child.js';
import type { SessionRecord } from '../../services/domain/session-record.js';
import type { TokenRange } from '../../services/domain/token-range.js';
import { makeClient, unaryCall } from '../../services/platform/rpc/client.js';
import type { ServiceTypes } from '../../services/platform/rpc/load-service.js';

const CALL = { timeoutMs: 20_000 };

/** What a turn asks of decode; greedy, 32 tokens, unless it says otherwise. */
export interface LaneTurn {
  readonly keepSessionMs?: number;
  readonly maxNewTokens?: number;
  readonly ignoreEos?: boolean;
  readonly temperature?: number;
  readonly stop?: string[];
  readonly forcedTokens?: number[];
  readonly promptLogprobs?: TokenRange[];
  readonly firstTokenUnixMs?: number;
}

/** Where a session's decode begins; by default right after the seal. */
export interface LaneHistory {
  readonly attempt?: number;
  readonly turn?: number;
  readonly historyTokenIds?: number[];
  readonly answeredTokens?: number;
  readonly turnBeginToken?: number;
  readonly answers?: TokenRange[];
}

/** A decode process and its client. */
export class LaneDecode {
  readonly #client: ServiceTypes['decode']['client'];

  constructor(readonly service: ServiceChild) {
    this.#client = makeClient('decode', service.address, null);
  }

  async start(
    record: SessionRecord,
    workerAddress: string,
    promptTokens: number,
    more: LaneTurn & LaneHistory = {},
  ): Promise<void> {
    const { sessionId, epoch, fingerprint } = record;
    const request: StartSessionRequest = {
      sessionId,
      epoch,
      fingerprint,
      workerAddress,
      attempt: more.attempt ?? record.attempt,
      turn: more.turn ?? 0,
      historyTokenIds: more.historyTokenIds ?? [],
      answeredTokens: more.answeredTokens ?? 0,
      turnBeginToken: more.turnBeginToken ?? 0,
      answers: more.answers ?? [],
      ...turnFields(record, promptTokens, more),
    };
    await unaryCall(this.#client, 'startSession', request, CALL);
  }

  /** @returns where the turn begins */
  async append(
    record: SessionRecord,
    tokenIds: readonly number[],
    promptTokens: number,
    more: LaneTurn & Pick<LaneHistory, 'attempt' | 'turn'> = {},
  ): Promise<number> {
    const { sessionId, epoch } = record;
    const fence = { sessionId, epoch, attempt: more.attempt ?? record.attempt };
    const fields = turnFields(record, promptTokens, more);
    const request = { ...fence, turn: more.turn ?? 1, tokenIds: [...tokenIds], ...fields };
    const { beginToken } = await unaryCall(this.#client, 'appendTurn', request, CALL);
    return Number(beginToken);
  }

  async release(sessionId: string): Promise<number> {
    const { freedBytes } = await unaryCall(this.#client, 'releaseSession', { sessionId }, CALL);
    return Number(freedBytes);
  }

  status(): Promise<DecodeStatus> {
    return unaryCall(this.#client, 'getStatus', {}, CALL);
  }

  async stop(): Promise<void> {
    this.#client.close();
    await stopServiceChild(this.service, 10_000);
  }
}

function turnFields(
  record: SessionRecord,
  promptTokens: number,
  more: LaneTurn,
): Pick<StartSessionRequest, 'generation' | 'context'> {
  return {
    generation: {
      temperature: more.temperature ?? 0,
      topP: 1,
      seed: '7',
      maxNewTokens: more.maxNewTokens ?? 32,
      ignoreEos: more.ignoreEos ?? false,
      stop: more.stop ?? [],
      forcedTokens: more.forcedTokens ?? [],
      promptLogprobs: more.promptLogprobs ?? [],
    },
    context: {
      admittedUnixMs: record.createdUnixMs,
      prefilledUnixMs: Date.now(),
      promptTokens,
      workerIds: [...record.lane],
      keepSessionMs: more.keepSessionMs ?? 0,
      firstTokenUnixMs: more.firstTokenUnixMs ?? 0,
      ...record.policy,
    },
  };
}
