import { median } from '../../../services/cli/eval/report/statistics.js';
import type { LlamaSetup } from './llama-setup.js';
import type { PrefillPolicy } from '../../../services/domain/policy.js';
import type { OurRun, PrefillRun } from './prefill-run.js';

/** One round of a policy: our run and the run of llama.cpp beside it. */
export interface Pair {
  readonly policy: PrefillPolicy;
  readonly tokens: number;
  readonly ours: OurRun;
  readonly theirs: PrefillRun;
}

/** A pair as a line of output; `ratio` above 1: ours is faster. */
export function pairLine({ policy, tokens, ours, theirs }: Pair, round: number, threads: number) {
  return {
    kind: 'pair',
    policy,
    tokens,
    round,
    seconds: rounded(ours.seconds),
    llama_seconds: rounded(theirs.seconds),
    ratio: rounded(theirs.seconds / ours.seconds),
    tile_density: rounded(ours.density),
    cpu_share: rounded(ours.cpuSeconds / ours.seconds / threads),
    llama_cpu_share: rounded(theirs.cpuSeconds / theirs.seconds / threads),
    next_token: ours.nextToken,
    llama_next_token: theirs.nextToken,
    logprob: rounded(ours.logprob),
    llama_logprob: rounded(theirs.logprob),
  };
}

/** What a policy's pairs of one length come to. */
export function medianLine(pairs: readonly Pair[], setup: LlamaSetup) {
  const ratios = pairs.map(({ ours, theirs }) => theirs.seconds / ours.seconds);
  return {
    kind: 'median',
    policy: pairs[0]?.policy,
    tokens: pairs[0]?.tokens,
    rounds: pairs.length,
    seconds: rounded(median(pairs.map(({ ours }) => ours.seconds))),
    llama_seconds: rounded(median(pairs.map(({ theirs }) => theirs.seconds))),
    ratio: rounded(median(ratios)),
    least_ratio: rounded(Math.min(...ratios)),
    llama_setup: setup,
  };
}

/**
 * Dense attention is the same computation in both programs: so is its next token.
 *
 * @throws Error if it is not
 */
export function requireSameToken({ policy, tokens, ours, theirs }: Pair): void {
  if (policy !== 'dense' || ours.nextToken === theirs.nextToken) return;
  throw new Error(
    `after ${tokens} tokens our next token is ${ours.nextToken}, llama.cpp's ${theirs.nextToken}: not the same computation`,
  );
}

function rounded(value: number): number {
  return Number(value.toPrecision(4));
}
