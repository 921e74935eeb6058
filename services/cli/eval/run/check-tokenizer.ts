import { ServingError } from '../../../domain/serving-error.js';
import type { PromptLogprob } from '../../../domain/session-event.js';
import type { Prompt } from '../../rpc/prompt-parts.js';
import type { Routers } from '../../rpc/routers.js';
import type { EvalDocument, EvalQuestion } from '../eval-types.js';
import type { EvalCluster } from './eval-cluster.js';
import type { PromptHalves } from './prompt-halves.js';
import { runTurn } from './run-turn.js';

/** Letters, digits, white space, spelled special tokens and several scripts. */
const PROBE = `Call me Ishmael. 20481 <|end|> naïve  café\n\n\tЮг 東京 🐋 don't`;

/**
 * Makes sure that as many ids are made here as the cluster would make, which costs it no work.
 * @param directory where the tokenizer was read, for the message
 * @throws ServingError MODEL_INVALID
 */
export async function checkTokenCount(
  routers: Routers,
  model: string,
  halves: PromptHalves,
  directory: string,
): Promise<void> {
  const own = await probeIds(halves);
  const served = await routers.countTokens(model, probePrompt(halves));
  if (own.length === served) return;
  throw new ServingError(
    'MODEL_INVALID',
    `the tokenizer of ${directory} makes ${String(own.length)} tokens of a text of which the cluster's model ${model} makes ${String(served)}: ${ADVICE}`,
  );
}

/**
 * Makes sure that ids made here are those that the cluster makes: it is asked for the log-probabilities
 * of a text, which name the ids that it made. Position 0 has none; the tokens there have
 * been counted.
 *
 * @param directory where the tokenizer was read, for the message
 * @throws ServingError MODEL_INVALID
 */
export async function checkTokenIds(
  cluster: EvalCluster,
  halves: PromptHalves,
  directory: string,
): Promise<void> {
  const own = await probeIds(halves);
  const options = {
    ...{ model: cluster.model, maxNewTokens: 1, maxPromptTokens: own.length },
    promptLogprobs: [{ beginToken: 1, endToken: own.length }],
  };
  const { promptLogprobs } = await cluster.surely(
    async () => runTurn(cluster, options, own, probePrompt(halves)),
    () => false,
  );
  const position = firstDifference(own, promptLogprobs);
  if (position === null) return;
  throw new ServingError(
    'MODEL_INVALID',
    `the tokenizer of ${directory} makes id ${String(own[position])} at position ${String(position)} of a text where the cluster's model ${cluster.model} makes ${String(promptLogprobs.get(position)?.tokenId ?? 'none')}: ${ADVICE}`,
  );
}

/** The first position, from 1 on, whose id was not served as it is here; null: all were. */
export function firstDifference(
  own: readonly number[],
  served: ReadonlyMap<number, Pick<PromptLogprob, 'tokenId'>>,
): number | null {
  const at = own.findIndex((id, position) => position > 0 && served.get(position)?.tokenId !== id);
  return at < 0 ? null : at;
}

const ADVICE = 'give --tokenizer the folder of the served model';

function probePrompt(halves: PromptHalves): Prompt {
  return halves.hasChat
    ? { kind: 'chat', messages: [{ role: 'user', content: PROBE }] }
    : { kind: 'text', bytes: [Buffer.from(PROBE)] };
}

/** The probe's ids, as a document and a question are made here. */
export async function probeIds(halves: PromptHalves): Promise<number[]> {
  const document: Pick<EvalDocument, 'promptText' | 'chat'> = { promptText: PROBE, chat: true };
  const question: Pick<EvalQuestion, 'questionText' | 'answerPrefix'> = {
    questionText: '',
    answerPrefix: '',
  };
  return [...(await halves.documentIds(document)), ...(await halves.questionIds(question, true))];
}
