import type { PromptLogprob } from '../../../domain/session-event.js';
import type { AnswerReport } from '../../rpc/answer-events.js';
import type { Prompt } from '../../rpc/prompt-parts.js';
import type { SparseThresholds } from '../../rpc/sparse-thresholds.js';
import type { GenerateOptions } from '../../rpc/to-header.js';
import type { EvalCluster } from './eval-cluster.js';

/** A finished turn. */
export interface Turn {
  readonly sessionId: string;
  readonly text: string;
  /** By position: those of the prompt that were asked for, and those of forced tokens. */
  readonly promptLogprobs: ReadonlyMap<number, PromptLogprob>;
  readonly report: AnswerReport;
  /** As the router resolved them; null for dense prefill. */
  readonly thresholds: SparseThresholds | null;
}

/**
 * Runs one turn to its end. A turn that fails, or is given up, leaves nothing in the cluster.
 *
 * @param ids of this turn's prompt, as they are, or as the cluster is expected to make them
 * @param prompt what is sent; default: the ids
 * @throws ServingError with the cluster's code, RouterUnreachable
 */
export async function runTurn(
  cluster: EvalCluster,
  options: GenerateOptions,
  ids: readonly number[],
  prompt: Prompt = { kind: 'ids', ids },
): Promise<Turn> {
  let sessionId = options.continueSessionId ?? null;
  let text = '';
  let thresholds: SparseThresholds | null = null;
  const forced = options.forcedTokens?.length ?? 0;
  const promptLogprobs = new Map<number, PromptLogprob>();
  try {
    for await (const event of cluster.generate(options, prompt)) {
      sessionId = event.sessionId;
      if (event.type === 'accepted') {
        thresholds = event.sparsePrefill;
      } else if (event.type === 'progress') {
        for (const scored of event.promptLogprobs) promptLogprobs.set(scored.position, scored);
      } else if (event.type === 'token') {
        text += event.text;
        if (event.index < forced) {
          const { tokenId, logprob, rank } = event;
          const position = ids.length + event.index;
          promptLogprobs.set(position, { position, tokenId, logprob, rank });
        }
      } else if (event.type === 'finished') {
        text += event.text;
        return { sessionId, text, promptLogprobs, report: event.report, thresholds };
      }
    }
    throw new Error('the stream ended without an answer');
  } catch (error) {
    if (sessionId !== null) await cluster.cancel(sessionId);
    throw error;
  }
}
