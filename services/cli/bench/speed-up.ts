import type { TokenRange } from '../../domain/token-range.js';
import { groupBy } from '../eval/report/group-by.js';
import { median } from '../eval/report/statistics.js';
import type { MeasuredChunk } from './interleaved-prefill.js';
import { type PolicyCosts, policyCosts, secondsOf } from './policy-costs.js';
import { type Spread, spreadOf } from './spread.js';

/** How many times faster than dense prefill of the same run a policy is. */
export interface SpeedUp {
  /** Of the whole prompt: dense seconds, those by the cost law included, over the policy's. */
  readonly whole: number;
  /** Of the chunks that dense prefill ran. */
  readonly measured: number;
  /** `whole` of each repeat by itself. */
  readonly byRepeat: readonly number[];
  /**
   * Over the chunks that dense prefill ran: each one's ratio, the median over repeats. Both sides of a
   * ratio ran one after the other.
   */
  readonly byChunk: Spread;
}

/**
 * @param policy and `dense`: chunks of all repeats
 * @param plan the prompt's chunks
 */
export function speedUp(
  policy: readonly MeasuredChunk[],
  dense: readonly MeasuredChunk[],
  plan: readonly TokenRange[],
): SpeedUp {
  const [ours, theirs] = [policyCosts('', policy, plan), policyCosts('', dense, plan)];
  const measuredTokens = theirs.costs.findLast(({ isMeasured }) => isMeasured)?.endToken ?? 0;
  const ran = ({ endToken }: TokenRange): boolean => endToken <= measuredTokens;
  return {
    whole: ratio(theirs, ours),
    measured: secondsOf(theirs.costs, ran) / secondsOf(ours.costs, ran),
    byRepeat: [...groupBy(dense, ({ repeat }) => repeat)].map(([repeat, ofRepeat]) =>
      ratio(
        policyCosts('', ofRepeat, plan),
        policyCosts(
          '',
          policy.filter((chunk) => chunk.repeat === repeat),
          plan,
        ),
      ),
    ),
    byChunk: spreadOf(chunkRatios(policy, dense)),
  };
}

function ratio(dense: PolicyCosts, policy: PolicyCosts): number {
  return secondsOf(dense.costs) / secondsOf(policy.costs);
}

function chunkRatios(policy: readonly MeasuredChunk[], dense: readonly MeasuredChunk[]): number[] {
  const place = ({ beginToken, repeat }: MeasuredChunk): string => `${beginToken} ${repeat}`;
  const ours = new Map(policy.map((chunk) => [place(chunk), chunk.result.engineMicros]));
  return [...groupBy(dense, ({ beginToken }) => beginToken).values()].map((repeats) =>
    median(repeats.map((chunk) => chunk.result.engineMicros / (ours.get(place(chunk)) ?? NaN))),
  );
}
