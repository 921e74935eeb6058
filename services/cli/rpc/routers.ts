import type { AnswerEvent } from './answer-events.js';
import type { ClusterStatus } from './cluster-status.js';
import { lastingAnswer, type LastingOptions } from './lasting-answer.js';
import type { Prompt } from './prompt-parts.js';
import { RouterClient, type ForkedSession } from './router-client.js';
import type { ServedModel } from './served-model.js';
import type { GenerateOptions } from './to-header.js';

/** How long a router of several has to take a connection. */
const CONNECT_MS = 2_000;

/** The routers of one cluster: any of them serves, and one can go on where another died. */
export class Routers {
  readonly #clients: readonly [RouterClient, ...RouterClient[]];

  /**
   * @param addresses host:port, in order of preference
   * @param environment as for RouterClient
   */
  constructor([first, ...others]: readonly [string, ...string[]], environment: NodeJS.ProcessEnv) {
    const open = (address: string): RouterClient => new RouterClient(address, environment);
    this.#clients = [open(first), ...others.map(open)];
  }

  /** As RouterClient.generate; once the session is accepted it survives its router. */
  async *generate(
    options: GenerateOptions,
    prompt: Prompt,
    lasting: LastingOptions,
  ): AsyncGenerator<AnswerEvent> {
    const clients = await this.#inOrder();
    const events = clients[0].generate(options, prompt, lasting.signal);
    yield* lastingAnswer(events, null, clients, lasting);
  }

  /** As RouterClient.resume; survives its router. */
  async *resume(
    sessionId: string,
    afterSequence: number,
    lasting: LastingOptions,
  ): AsyncGenerator<AnswerEvent> {
    const clients = await this.#inOrder();
    const events = clients[0].resume(sessionId, afterSequence, lasting.signal);
    yield* lastingAnswer(events, { sessionId, sequence: afterSequence }, clients, lasting);
  }

  async fork(sessionId: string, keepSessionMs: number): Promise<ForkedSession> {
    const [client] = await this.#inOrder();
    return client.fork(sessionId, keepSessionMs);
  }

  /** As RouterClient.release. */
  async release(sessionId: string): Promise<boolean> {
    const [client] = await this.#inOrder();
    return client.release(sessionId);
  }

  /** As RouterClient.cancel. */
  async cancel(sessionId: string): Promise<boolean> {
    const [client] = await this.#inOrder();
    return client.cancel(sessionId);
  }

  /** As RouterClient.models. */
  async models(): Promise<ServedModel[]> {
    const [client] = await this.#inOrder();
    return client.models();
  }

  /** As RouterClient.countTokens. */
  async countTokens(model: string, prompt: Prompt): Promise<number> {
    const [client] = await this.#inOrder();
    return client.countTokens(model, prompt);
  }

  async status(): Promise<ClusterStatus> {
    const [client] = await this.#inOrder();
    return client.status();
  }

  close(): void {
    for (const client of this.#clients) client.close();
  }

  /** From the first that takes a connection on; a single one is called as it is. */
  async #inOrder(): Promise<readonly [RouterClient, ...RouterClient[]]> {
    const [first, ...others] = this.#clients;
    const unreachable: RouterClient[] = [];
    let next: RouterClient = first;
    for (const other of others) {
      if (await next.isReachable(CONNECT_MS)) break;
      unreachable.push(next);
      next = other;
    }
    const rest = this.#clients.filter((client) => client !== next && !unreachable.includes(client));
    return [next, ...rest, ...unreachable];
  }
}
