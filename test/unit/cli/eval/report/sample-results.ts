import type { SampleResult } from '../../../../../services/cli/eval/eval-types.js';

/** An answered question; the rest is of no interest to a report. */
export function answer(
  task: string,
  lengthTokens: number,
  policy: string,
  at: number,
  score: number,
  facts: SampleResult['facts'] = {},
): SampleResult {
  return {
    documentId: `${task}/${lengthTokens}/${Math.floor(at / 10)}`,
    questionId: `q${at % 10}`,
    ...{ task, lengthTokens, policy, score, facts },
    promptTokens: lengthTokens,
    prediction: 'x',
    references: ['x'],
    ...{ logprobSum: null, targetTokens: null, worstRank: null },
    timeToFirstTokenMs: 1,
    tileDensity: null,
  };
}

/** A scored span of ten tokens with so many nats each. */
export function span(
  task: string,
  lengthTokens: number,
  policy: string,
  at: number,
  natsPerToken: number,
  facts: SampleResult['facts'] = {},
): SampleResult {
  return {
    ...answer(task, lengthTokens, policy, at, 0, facts),
    prediction: null,
    references: [],
    ...{ logprobSum: -10 * natsPerToken, targetTokens: 10, worstRank: 2 + (at % 3) },
  };
}

/** `count` answers of which the first `right` are right. */
export function answers(
  task: string,
  lengthTokens: number,
  policy: string,
  right: number,
  count = 100,
): SampleResult[] {
  return Array.from({ length: count }, (_, at) =>
    answer(task, lengthTokens, policy, at, at < right ? 1 : 0),
  );
}
