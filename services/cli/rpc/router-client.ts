import { once } from 'node:events';
import { Readable } from 'node:stream';
import type { ClientDuplexStream } from '@grpc/grpc-js';
import { DEFAULT_MESSAGE_LIMITS } from '../../platform/rpc/channel-options.js';
import { makeClient, unaryCall } from '../../platform/rpc/client.js';
import { tlsFiles } from '../../platform/config/common-settings.js';
import type { GenerateHeader } from '../../../proto/gen/longshadow/router/v1/GenerateHeader.js';
import type { GenerateRequest } from '../../../proto/gen/longshadow/router/v1/GenerateRequest.js';
import type { GenerateResponse__Output } from '../../../proto/gen/longshadow/router/v1/GenerateResponse.js';
import type { ResumeResponse__Output } from '../../../proto/gen/longshadow/router/v1/ResumeResponse.js';
import type { RouterServiceClient } from '../../../proto/gen/longshadow/router/v1/RouterService.js';
import { toAnswerEvent, type AnswerEvent } from './answer-events.js';
import { toClusterStatus, type ClusterStatus } from './cluster-status.js';
import { promptParts, type Prompt } from './prompt-parts.js';
import { toServedModel, type ServedModel } from './served-model.js';
import { routerError } from './router-error.js';
import { toHeader, type GenerateOptions } from './to-header.js';

const UNARY_OPTIONS = { timeoutMs: 30_000 };

/** A kept session that Fork made. */
export interface ForkedSession {
  readonly sessionId: string;
  readonly keptUntilUnixMs: number;
  readonly tokens: number;
}

/** The router as the command line calls it. */
export class RouterClient {
  readonly #client: RouterServiceClient;

  /**
   * @param address host:port
   * @param environment LONGSHADOW_TLS_CERT, LONGSHADOW_TLS_KEY and LONGSHADOW_TLS_CA turn TLS on;
   *   LONGSHADOW_API_KEY is sent with every call
   */
  constructor(
    readonly address: string,
    environment: NodeJS.ProcessEnv,
  ) {
    const tls = tlsFiles({
      tlsCertPath: environment['LONGSHADOW_TLS_CERT'] ?? null,
      tlsKeyPath: environment['LONGSHADOW_TLS_KEY'] ?? null,
      tlsCaPath: environment['LONGSHADOW_TLS_CA'] ?? null,
    });
    const apiKey = environment['LONGSHADOW_API_KEY'] ?? '';
    this.#client = makeClient(
      'router',
      address,
      tls,
      DEFAULT_MESSAGE_LIMITS,
      apiKey === '' ? null : apiKey,
    );
  }

  /** Whether a connection stands within `ms`. */
  async isReachable(ms: number): Promise<boolean> {
    return new Promise((resolve) => {
      this.#client.waitForReady(Date.now() + ms, (error) => {
        resolve(error === undefined);
      });
    });
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

  /**
   * Yields a session's events after a sequence number, until its last turn ends.
   * @throws ServingError with the router's code
   */
  async *resume(
    sessionId: string,
    afterSequence: number,
    signal: AbortSignal,
  ): AsyncGenerator<AnswerEvent> {
    const call = this.#client.resume({ sessionId, afterSequence });
    const cancel = (): void => {
      call.cancel();
    };
    signal.addEventListener('abort', cancel, { once: true });
    if (signal.aborted) cancel();
    try {
      for await (const response of call as AsyncIterable<ResumeResponse__Output>) {
        const event = toAnswerEvent(response);
        if (event !== null) yield event;
      }
    } catch (error) {
      throw routerError(error, this.address);
    } finally {
      signal.removeEventListener('abort', cancel);
      call.cancel();
    }
  }

  /** @param keepSessionMs 0: as long as the first session */
  async fork(sessionId: string, keepSessionMs: number): Promise<ForkedSession> {
    const forked = await this.#unary(
      unaryCall(this.#client, 'fork', { sessionId, keepSessionMs }, UNARY_OPTIONS),
    );
    return {
      sessionId: forked.sessionId,
      keptUntilUnixMs: Number(forked.keptUntilUnixMs),
      tokens: Number(forked.tokens),
    };
  }

  /** Frees a kept session. @returns false if it had ended before */
  async release(sessionId: string): Promise<boolean> {
    const { released } = await this.#unary(
      unaryCall(this.#client, 'releaseSession', { sessionId }, UNARY_OPTIONS),
    );
    return released;
  }

  /** Stops a session in whatever phase and frees it. @returns false if it had ended before */
  async cancel(sessionId: string): Promise<boolean> {
    const { cancelled } = await this.#unary(
      unaryCall(this.#client, 'cancelSession', { sessionId }, UNARY_OPTIONS),
    );
    return cancelled;
  }

  /** The models that the cluster serves now, by name. */
  async models(): Promise<ServedModel[]> {
    const { models } = await this.#unary(unaryCall(this.#client, 'listModels', {}, UNARY_OPTIONS));
    return models.map(toServedModel);
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
