import { once } from 'node:events';
import { Readable } from 'node:stream';
import type { ClientDuplexStream } from '@grpc/grpc-js';
import type { TokenRange } from '../../domain/token-range.js';
import type { CachePolicy, PrefillPolicy } from '../../domain/policy.js';
import { makeClient, unaryCall } from '../../platform/rpc/client.js';
import { tlsFiles } from '../../platform/config/common-settings.js';
import type { GenerateHeader } from '../../../proto/gen/longshadow/router/v1/GenerateHeader.js';
import type { GenerateRequest } from '../../../proto/gen/longshadow/router/v1/GenerateRequest.js';
import type { GenerateResponse__Output } from '../../../proto/gen/longshadow/router/v1/GenerateResponse.js';
import type { RouterServiceClient } from '../../../proto/gen/longshadow/router/v1/RouterService.js';
import { toAnswerEvent, type AnswerEvent } from './answer-events.js';
import { toClusterStatus, type ClusterStatus } from './cluster-status.js';
import { promptParts, type Prompt } from './prompt-parts.js';
import { routerError } from './router-error.js';

/** What a question asks for besides its prompt; absent means the server's default. */
export interface GenerateOptions {
  readonly model: string;
  readonly maxNewTokens?: number;
  readonly temperature?: number;
  readonly topK?: number;
  readonly topP?: number;
  readonly seed?: string;
  readonly stop?: readonly string[];
  readonly ignoreEos?: boolean;
  readonly prefillPolicy?: PrefillPolicy;
  readonly cachePolicy?: CachePolicy;
  readonly maxPromptTokens?: number;
  readonly deadlineMs?: number;
  readonly keepSessionMs?: number;
  readonly continueSessionId?: string;
  readonly promptLogprobs?: readonly TokenRange[];
}

const UNARY_OPTIONS = { timeoutMs: 30_000 };

/** The router as the command line calls it. */
export class RouterClient {
  readonly #client: RouterServiceClient;

  /**
   * @param address host:port
   * @param environment LONGSHADOW_TLS_CERT, LONGSHADOW_TLS_KEY and LONGSHADOW_TLS_CA turn TLS on
   */
  constructor(
    private readonly address: string,
    environment: NodeJS.ProcessEnv,
  ) {
    const tls = tlsFiles({
      tlsCertPath: environment['LONGSHADOW_TLS_CERT'] ?? null,
      tlsKeyPath: environment['LONGSHADOW_TLS_KEY'] ?? null,
      tlsCaPath: environment['LONGSHADOW_TLS_CA'] ?? null,
    });
    this.#client = makeClient('router', address, tls);
  }

  /**
   * Uploads a prompt in parts and yields the session's events.
   *
   * Aborting `signal` cancels the call, which cancels the session.
   * @throws ServingError with the router's code
   */
  async *generate(
    options: GenerateOptions,
    prompt: Prompt,
    signal: AbortSignal,
  ): AsyncGenerator<AnswerEvent> {
    const call = this.#client.generate();
    const cancel = (): void => {
      call.cancel();
    };
    signal.addEventListener('abort', cancel, { once: true });
    if (signal.aborted) cancel();
    let uploadError: Error | null = null;
    const ended = new AbortController();
    const endUpload = (): void => {
      ended.abort();
      // Standard input may stay silent for ever.
      if (prompt.kind === 'text' && prompt.bytes instanceof Readable) prompt.bytes.destroy();
    };
    call.once('close', endUpload);
    const upload = sendPrompt(call, toHeader(options), prompt, ended.signal).catch(
      (error: unknown) => {
        if (ended.signal.aborted) return;
        uploadError = error instanceof Error ? error : new Error(String(error));
        call.cancel();
      },
    );
    try {
      for await (const response of call as AsyncIterable<GenerateResponse__Output>) {
        const event = toAnswerEvent(response);
        if (event !== null) yield event;
      }
    } catch (error) {
      throw (uploadError as Error | null) ?? routerError(error, this.address);
    } finally {
      signal.removeEventListener('abort', cancel);
      call.cancel();
      endUpload();
      await upload;
    }
  }

  async countTokens(model: string, prompt: Prompt): Promise<number> {
    const parts = [];
    for await (const part of promptParts(prompt)) parts.push(part);
    const response = await this.#unary(
      unaryCall(this.#client, 'countTokens', { model, parts }, UNARY_OPTIONS),
    );
    return Number(response.tokens);
  }

  async status(): Promise<ClusterStatus> {
    return toClusterStatus(
      await this.#unary(unaryCall(this.#client, 'getStatus', {}, UNARY_OPTIONS)),
    );
  }

  close(): void {
    this.#client.close();
  }

  async #unary<Response>(response: Promise<Response>): Promise<Response> {
    try {
      return await response;
    } catch (error) {
      throw routerError(error, this.address);
    }
  }
}

type GenerateCall = ClientDuplexStream<GenerateRequest, GenerateResponse__Output>;

/** Writes header and parts as fast as the router takes them, then half-closes. */
async function sendPrompt(
  call: GenerateCall,
  header: GenerateHeader,
  prompt: Prompt,
  ended: AbortSignal,
): Promise<void> {
  const send = async (request: GenerateRequest): Promise<void> => {
    if (!call.write(request) && !ended.aborted) {
      await once(call, 'drain', { signal: ended }).catch(() => undefined);
    }
  };
  await send({ header });
  for await (const part of promptParts(prompt)) {
    if (ended.aborted) return;
    await send({ part });
  }
  call.end();
}

function toHeader(options: GenerateOptions): GenerateHeader {
  const { temperature, topK, topP, seed } = options;
  return {
    model: options.model,
    sampling: {
      ...(temperature === undefined ? {} : { temperature }),
      ...(topK === undefined ? {} : { topK }),
      ...(topP === undefined ? {} : { topP }),
      ...(seed === undefined ? {} : { seed }),
    },
    maxNewTokens: options.maxNewTokens ?? 0,
    stop: [...(options.stop ?? [])],
    ignoreEos: options.ignoreEos ?? false,
    ...(options.prefillPolicy === undefined
      ? {}
      : { prefillPolicy: PREFILL_POLICIES[options.prefillPolicy] }),
    ...(options.cachePolicy === undefined
      ? {}
      : { cachePolicy: CACHE_POLICIES[options.cachePolicy] }),
    maxPromptTokens: options.maxPromptTokens ?? 0,
    deadlineMs: options.deadlineMs ?? 0,
    keepSessionMs: options.keepSessionMs ?? 0,
    continueSessionId: options.continueSessionId ?? '',
    promptLogprobs: [...(options.promptLogprobs ?? [])],
  };
}

const PREFILL_POLICIES = {
  dense: 'PREFILL_POLICY_DENSE',
  minference: 'PREFILL_POLICY_MINFERENCE',
  flexprefill: 'PREFILL_POLICY_FLEXPREFILL',
} as const;

const CACHE_POLICIES = {
  full: 'CACHE_POLICY_FULL',
  shadowkv: 'CACHE_POLICY_SHADOWKV',
  locret: 'CACHE_POLICY_LOCRET',
} as const;
