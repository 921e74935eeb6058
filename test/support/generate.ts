import type { ServiceError } from '@grpc/grpc-js';
import type { GenerateHeader } from '../../proto/gen/longshadow/router/v1/GenerateHeader.js';
import type { GenerateRequest } from '../../proto/gen/longshadow/router/v1/GenerateRequest.js';
import type { GenerateResponse__Output } from '../../proto/gen/longshadow/router/v1/GenerateResponse.js';
import type { Finished__Output } from '../../proto/gen/longshadow/router/v1/Finished.js';
import type { PromptLogprob__Output } from '../../proto/gen/longshadow/router/v1/PromptLogprob.js';
import type { PromptPart } from '../../proto/gen/longshadow/router/v1/PromptPart.js';
import type { RouterServiceClient } from '../../proto/gen/longshadow/router/v1/RouterService.js';
import type { Token__Output } from '../../proto/gen/longshadow/router/v1/Token.js';
import { MODEL } from './cluster.js';

/** A finished turn as the client saw it. */
export interface Answer {
  readonly sessionId: string;
  readonly events: readonly GenerateResponse__Output[];
  readonly tokens: readonly Token__Output[];
  readonly ids: readonly number[];
  readonly text: string;
  readonly promptLogprobs: readonly PromptLogprob__Output[];
  readonly finished: Finished__Output;
}

/** Raw requests in, all events out; rejects with the call's ServiceError. */
export function exchange(
  client: RouterServiceClient,
  requests: Iterable<GenerateRequest>,
  onEvent: (event: GenerateResponse__Output, cancel: () => void) => void = () => undefined,
): Promise<GenerateResponse__Output[]> {
  return new Promise((resolve, reject) => {
    const call = client.generate({ deadline: Date.now() + 120_000 });
    const events: GenerateResponse__Output[] = [];
    call.on('data', (event: GenerateResponse__Output) => {
      events.push(event);
      onEvent(event, () => {
        call.cancel();
      });
    });
    call.on('error', (error: ServiceError) => {
      reject(error);
    });
    call.on('end', () => {
      resolve(events);
    });
    for (const request of requests) call.write(request);
    call.end();
  });
}

/** Runs one turn to its end and checks the order of its events. */
export async function generate(
  client: RouterServiceClient,
  header: GenerateHeader,
  parts: Iterable<PromptPart>,
  onEvent?: (event: GenerateResponse__Output, cancel: () => void) => void,
): Promise<Answer> {
  const requests: GenerateRequest[] = [{ header: { model: MODEL, ...header } }];
  for (const part of parts) requests.push({ part });
  return toAnswer(await exchange(client, requests, onEvent));
}

export function idParts(ids: readonly number[], partIds = 1_024): PromptPart[] {
  const parts: PromptPart[] = [];
  for (let begin = 0; begin < ids.length; begin += partIds) {
    parts.push({ tokenIds: { ids: ids.slice(begin, begin + partIds) } });
  }
  return parts;
}

function toAnswer(events: GenerateResponse__Output[]): Answer {
  const finished = events.at(-1)?.finished;
  if (!finished) throw new Error(`the last event is ${JSON.stringify(events.at(-1))}`);
  const tokens = events.flatMap(({ token }) => (token ? [token] : []));
  for (const [index, token] of tokens.entries()) {
    if (token.index !== index) throw new Error(`token ${index} came as number ${token.index}`);
  }
  for (const [place, { sequence }] of events.entries()) {
    const first = Number(events[0]?.sequence);
    if (Number(sequence) !== first + place) {
      throw new Error(`event ${place} has sequence ${sequence}; the first has ${first}`);
    }
  }
  return {
    sessionId: events[0]?.sessionId ?? '',
    events,
    tokens,
    ids: tokens.map(({ tokenId }) => tokenId),
    text: tokens.map(({ text }) => text).join('') + finished.text,
    promptLogprobs: events.flatMap(({ progress }) => progress?.promptLogprobs ?? []),
    finished,
  };
}
