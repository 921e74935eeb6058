import type { Generation } from '../../../proto/gen/longshadow/decode/v1/Generation.js';
import type { SparseWork as WireSparseWork } from '../../../proto/gen/longshadow/decode/v1/SparseWork.js';
import type { TurnContext as WireTurnContext } from '../../../proto/gen/longshadow/decode/v1/TurnContext.js';
import type { GenerationOptions } from '../../domain/sampling.js';
import type { SparseWork } from '../../domain/sparse-work.js';
import type { TlsFiles } from '../../platform/config/common-settings.js';
import { makeClient, unaryCall } from '../../platform/rpc/client.js';
import type { ServiceTypes } from '../../platform/rpc/load-service.js';
import type { AppendTurnCall, DecodePeers, StartSessionCall, TurnContext } from '../drive/peers.js';
import { ClientPool } from './client-pool.js';

/** The decode checks the hand-off and maps segments before it answers. */
const START_TIMEOUT_MS = 60_000;
const RELEASE_TIMEOUT_MS = 10_000;
const STATUS_TIMEOUT_MS = 1_000;

/** Calls to decodes over gRPC. */
export class DecodeClients implements DecodePeers {
  readonly #pool: ClientPool<ServiceTypes['decode']['client']>;

  constructor(tls: TlsFiles | null) {
    this.#pool = new ClientPool((address) => makeClient('decode', address, tls));
  }

  async startSession(address: string, call: StartSessionCall, signal: AbortSignal): Promise<void> {
    const { sessionId, epoch, fingerprint, workerAddress, traceparent } = call;
    await unaryCall(
      this.#pool.get(address),
      'startSession',
      {
        sessionId,
        epoch,
        fingerprint,
        workerAddress,
        attempt: call.attempt,
        turn: call.turn,
        historyTokenIds: [...call.historyTokenIds],
        answeredTokens: call.answeredTokens,
        turnBeginToken: call.turnBeginToken,
        answers: call.answers.map((range) => ({ ...range })),
        generation: toGeneration(call.generation),
        context: toContext(call.context),
      },
      { signal, timeoutMs: START_TIMEOUT_MS, traceparent, unavailable: 'DECODE_LOST' },
    );
  }

  async appendTurn(address: string, call: AppendTurnCall, signal: AbortSignal): Promise<number> {
    const { sessionId, epoch, traceparent } = call;
    const answer = await unaryCall(
      this.#pool.get(address),
      'appendTurn',
      {
        sessionId,
        epoch,
        attempt: call.attempt,
        turn: call.turn,
        tokenIds: [...call.tokenIds],
        generation: toGeneration(call.generation),
        context: toContext(call.context),
      },
      { signal, timeoutMs: START_TIMEOUT_MS, traceparent, unavailable: 'DECODE_LOST' },
    );
    return Number(answer.beginToken);
  }

  async releaseSession(address: string, sessionId: string): Promise<void> {
    const options = { timeoutMs: RELEASE_TIMEOUT_MS, unavailable: 'DECODE_LOST' } as const;
    await unaryCall(this.#pool.get(address), 'releaseSession', { sessionId }, options);
  }

  async getStatus(address: string): ReturnType<DecodePeers['getStatus']> {
    const options = { timeoutMs: STATUS_TIMEOUT_MS, unavailable: 'DECODE_LOST' } as const;
    const status = await unaryCall(this.#pool.get(address), 'getStatus', {}, options);
    return {
      sessions: status.sessions,
      storeFiles: Number(status.storeFiles),
      storeFileBytes: Number(status.storeFileBytes),
      mappings: Number(status.mappings),
      mappedBytes: Number(status.mappedBytes),
      privateBytes: Number(status.privateBytes),
      residentBytes: Number(status.residentBytes),
      prefillChunks: 0,
      decodeCalls: Number(status.decodeCalls),
      decodeSteps: Number(status.decodeSteps),
    };
  }

  retain(addresses: ReadonlySet<string>): void {
    this.#pool.retain(addresses);
  }

  close(): void {
    this.#pool.close();
  }
}

function toGeneration(options: GenerationOptions): Generation {
  const { sampling, stopping, forcedTokenIds, promptLogprobs } = options;
  return {
    temperature: sampling.temperature,
    topK: sampling.topK,
    topP: sampling.topP,
    seed: sampling.seed,
    maxNewTokens: stopping.maxNewTokens,
    stop: [...stopping.stopTexts],
    ignoreEos: stopping.ignoreEos,
    forcedTokens: [...forcedTokenIds],
    promptLogprobs: promptLogprobs.map((range) => ({ ...range })),
  };
}

function toContext(context: TurnContext): WireTurnContext {
  const { policy, sparseWork } = context;
  return {
    admittedUnixMs: context.admittedUnixMs,
    prefilledUnixMs: context.prefilledUnixMs,
    promptTokens: context.promptTokens,
    cachedTokens: context.cachedTokens,
    workerIds: [...context.workerIds],
    segmentBytes: context.segmentBytes,
    promptReran: context.promptReran,
    keepSessionMs: context.keepSessionMs,
    prefillPolicy: policy.prefillPolicy,
    cachePolicy: policy.cachePolicy,
    dtype: policy.dtype,
    cutRule: policy.cutRule,
    deadlineUnixMs: context.deadlineUnixMs ?? 0,
    firstTokenUnixMs: context.firstTokenUnixMs ?? 0,
    ...(policy.sparse === null ? {} : { sparse: policy.sparse }),
    ...(sparseWork === null ? {} : { sparseWork: toSparseWork(sparseWork) }),
  };
}

function toSparseWork(work: SparseWork): WireSparseWork {
  return {
    ...work,
    attendedKeys: [...work.attendedKeys],
    causalKeys: [...work.causalKeys],
    layerAttendedKeys: [...work.layerAttendedKeys],
    layerCausalKeys: [...work.layerCausalKeys],
    estimateMicros: Math.round(work.estimateMicros),
    indexMicros: Math.round(work.indexMicros),
    attentionMicros: Math.round(work.attentionMicros),
  };
}
