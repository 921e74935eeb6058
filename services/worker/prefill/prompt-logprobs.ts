import type { PrefillChunkRequest, PrefillChunkResult } from '../../../native/ts/index.js';
import type { PrefillJob } from '../../domain/prefill-job.js';
import type { PromptLogprob } from '../../domain/session-event.js';

/**
 * Positions of a chunk whose log-probability is wanted, ascending. The one at its end needs the
 * prompt's next token; without one it is left out.
 */
export function wantedPositions(
  job: Pick<PrefillJob, 'promptLogprobs' | 'endToken' | 'nextTokenId'>,
): Float64Array {
  const lastPosition = job.nextTokenId === null ? job.endToken - 1 : job.endToken;
  const positions: number[] = [];
  for (const range of job.promptLogprobs) {
    const end = Math.min(range.endToken, lastPosition + 1);
    for (let position = range.beginToken; position < end; position++) positions.push(position);
  }
  return Float64Array.from(positions);
}

/** The engine's answers for `logprobPositions`, with their tokens. */
export function promptLogprobs(
  request: PrefillChunkRequest,
  result: Pick<PrefillChunkResult, 'logprobs' | 'ranks'>,
): PromptLogprob[] {
  const { tokenIds, beginToken, nextTokenId, logprobPositions } = request;
  return Array.from(logprobPositions, (position, index) => {
    const tokenId = tokenIds[position - beginToken] ?? nextTokenId;
    const logprob = result.logprobs[index];
    const rank = result.ranks[index];
    if (tokenId === null || logprob === undefined || rank === undefined) {
      throw new Error(`no log-probability for position ${String(position)}`);
    }
    return { position, tokenId, logprob, rank };
  });
}
